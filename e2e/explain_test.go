//go:build e2e

package e2e

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

const (
	// EXPLAIN_PAIRS is how many packets testExplain explains, EXPLAIN_SEED what it picks them by.
	pairsEnv = "EXPLAIN_PAIRS"
	seedEnv  = "EXPLAIN_SEED"
	// pairsOfOne are explained during one capture, pairsAtOnce of them at a time: a passport is about its own probe alone.
	pairsOfOne  = 20
	pairsAtOnce = 3
)

// testExplain has passports made of packets between random ends, while captures run at all devices of all nodes and pods. A
// passport is to have seen its packet and the answer at those devices where the captures have them, and at no other.
func testExplain(t *testing.T, name string) {
	n, seed := envOr(t, pairsEnv, 6), envOr(t, seedEnv, time.Now().UnixNano())
	t.Logf("%s=%d %s=%d", pairsEnv, n, seedEnv, seed)
	pairs := randomPairs(t, name, int(n), rand.New(rand.NewPCG(uint64(seed), 0)))
	pairs = append(pairs, watchedPairs(t, name)...)
	points := allPoints(t, name)
	differ, began := 0, time.Now()
	for some := range slices.Chunk(pairs, pairsOfOne) {
		file, passports := explainAll(t, name, points, some)
		frames := readFrames(t, file)
		for i, p := range passports {
			if why := p.differs(some[i], frames); why != "" {
				t.Errorf("%v: %s", some[i], why)
				differ++
			}
		}
	}
	t.Logf("%d of %d passports equal what captures saw, in %.1f s", len(pairs)-differ, len(pairs), time.Since(began).Seconds())
}

// envOr is a number that a variable of the environment has, or another one.
func envOr(t *testing.T, name string, otherwise int64) int64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		t.Fatalf("%s=%s is no number of something", name, text)
	}
	return n
}

// pairOfEnds are who sends a packet and who gets it.
type pairOfEnds struct {
	from, to, protocol string
	client             netip.Addr // of from
	sends              string     // a command in from that sends the packet; empty: lab explain does
}

func (p pairOfEnds) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s from %s to %s %s", p.protocol, p.from, p.to, p.sends))
}

// randomPairs are pairs of each kind in turn, between ends by chance: pods on the same node and on others, nodes, the demo's
// Service at its own address and at nodes.
func randomPairs(t *testing.T, name string, n int, chance *rand.Rand) (pairs []pairOfEnds) {
	t.Helper()
	demo := podsOf(t, name, "default", "app=demo")
	var clients []pairOfEnds
	for _, of := range []struct{ namespace, label string }{{"default", "app=cni"}, {"default", "app=demo"}, {"kube-system", "k8s-app=kube-dns"}} {
		for _, p := range podsOf(t, name, of.namespace, of.label) {
			clients = append(clients, pairOfEnds{from: of.namespace + "/" + p.Name, client: netip.MustParseAddr(p.IP)})
		}
	}
	nodes := strings.Fields(kubectl(t, name, "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"))
	nodePort := kubectl(t, name, "get", "service", "demo", "-o", "jsonpath={.spec.ports[0].nodePort}")
	if len(clients) < 4 || len(demo) < 3 || len(nodes) < 3 || nodePort == "" {
		t.Fatalf("too few ends: clients %v, demo %v, nodes %v, nodePort %q", clients, demo, nodes, nodePort)
	}
	kinds := []func() (to, protocol string){
		func() (string, string) { return "default/" + pick(chance, demo).Name, "icmp" },
		func() (string, string) { return pick(chance, demo).IP + ":80", "tcp" },
		func() (string, string) { return "demo:8080", "tcp" },
		func() (string, string) { return pick(chance, nodes) + ":" + nodePort, "tcp" },
		func() (string, string) { return pick(chance, clients).from, "icmp" },
		func() (string, string) { return pick(chance, nodes), "icmp" },
	}
	for len(pairs) < n {
		p := pick(chance, clients)
		p.to, p.protocol = kinds[len(pairs)%len(kinds)]()
		if p.to != p.from && !strings.HasPrefix(p.to, p.client.String()+":") { // what a pod sends to itself leaves it nowhere
			pairs = append(pairs, p)
		}
	}
	return pairs
}

// watchedPairs are of packets that the pod cni sends itself: to a pod of each node, and to the demo's Service.
func watchedPairs(t *testing.T, name string) (pairs []pairOfEnds) {
	t.Helper()
	cni := podsOf(t, name, "default", "app=cni")[0]
	of := pairOfEnds{from: "default/cni", client: netip.MustParseAddr(cni.IP)}
	for _, p := range podsOf(t, name, "default", "app=demo") {
		of.to, of.protocol, of.sends = "default/"+p.Name, "icmp", "ping -c 1 "+p.IP
		pairs = append(pairs, of)
	}
	of.to, of.protocol, of.sends = "demo:8080", "tcp", "curl -sS -o /dev/null demo:8080"
	return append(pairs, of)
}

func pick[T any](chance *rand.Rand, from []T) T { return from[chance.IntN(len(from))] }

// allPoints are both ends of the devices of all pods, and the nodes' other devices, as lab capture takes them.
func allPoints(t *testing.T, name string) (points []string) {
	t.Helper()
	for _, p := range lines(kubectl(t, name, "get", "pods", "-A", "--field-selector", "status.phase=Running", "-o",
		`jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {.spec.hostNetwork}{"\n"}{end}`)) {
		if pod, ofNode, _ := strings.Cut(p, " "); ofNode != "true" {
			points = append(points, pod)
		}
	}
	for _, node := range containers(t, name) {
		for _, device := range strings.Fields(onNode(t, node, "ls", "/sys/class/net")) {
			if !strings.HasPrefix(device, "lxc") { // those of pods
				points = append(points, node+":"+device)
			}
		}
	}
	return points
}

// explainAll captures at the points while it has the passports of the pairs made.
func explainAll(t *testing.T, name string, points []string, pairs []pairOfEnds) (file string, passports []passportSeen) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "all.pcapng")
	var script strings.Builder
	for i, p := range pairs {
		sends := ""
		if p.sends != "" {
			sends = fmt.Sprintf("--watch -- %s shell --name %s %s -- %s", labBin, name, p.from, p.sends)
		}
		fmt.Fprintf(&script, "%s explain --name %s %s %s --proto %s -o json >%s/%d.json %s &\n", labBin, name, p.from, p.to, p.protocol, dir, i, sends)
		if (i+1)%pairsAtOnce == 0 {
			script.WriteString("wait\n")
		}
	}
	script.WriteString("wait\n")
	// SYNs, their answers, and all that can have an echo in it.
	filter := "icmp or tcp[tcpflags] & (tcp-syn|tcp-rst) != 0 or udp port 8472 or udp port 6081"
	o := mustLab(t, append(append([]string{"capture", "--name", name}, points...), filter, "-w", file, "-o", "json", "--", "sh", "-c", script.String())...)
	var said struct {
		Dropped int
		Points  []struct{ Name, Gone string }
	}
	if err := json.Unmarshal([]byte(o.stdout), &said); err != nil || said.Dropped != 0 || len(said.Points) < len(points) {
		t.Fatalf("lab capture at %v says %s: %v", points, o.stdout, err)
	}
	for _, p := range said.Points {
		if p.Gone != "" {
			t.Fatalf("%s was not watched to the end: %s", p.Name, p.Gone)
		}
	}
	for i := range pairs {
		var p passportSeen
		text, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%d.json", i)))
		if err == nil {
			err = json.Unmarshal(text, &p)
		}
		if err != nil {
			t.Fatalf("the passport of %v: %v", pairs[i], err)
		}
		p.text = string(text)
		passports = append(passports, p)
	}
	return file, passports
}

// passportSeen is what this reads of a passport.
type passportSeen struct {
	text  string
	Probe struct {
		Port    uint16
		Marker  string
		Watched struct{ Payload []byte } // of an echo it begins with the time, so no other has it
	}
	Failed          string
	Request, Answer *waySeen
}

type waySeen struct {
	Arrived  bool
	End, Why string
	Hops     []struct {
		Node, Device, Pod string
		Packet            *struct{}
	}
	Absences []struct{ Node, Device string }
}

// differs is what a passport and captures do not agree about; empty: nothing.
func (p passportSeen) differs(pair pairOfEnds, captured []frame) string {
	arrived := p.Request != nil && p.Request.Arrived && p.Answer != nil && p.Answer.Arrived
	if p.Failed != "" || !arrived && !p.stayed() {
		return "it is said not to arrive: " + p.text
	}
	said, seen, absent := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for which, w := range map[string]*waySeen{"request": p.Request, "answer": p.Answer} {
		if w == nil {
			continue
		}
		for _, h := range w.Hops {
			if h.Packet != nil {
				said[which+" "+placeOf(h.Node, h.Pod, h.Device)] = true
			}
		}
		for _, a := range w.Absences {
			if a.Device != "" {
				absent[which+" "+placeOf(a.Node, "", a.Device)] = true
			}
		}
	}
	probe := p.in(pair, captured)
	for _, f := range captured {
		if which := probe(f); which != "" {
			seen[which+" "+f.at] = true
		}
	}
	if !maps.Equal(said, seen) {
		return fmt.Sprintf("the passport has it at\n%s\nthe captures at\n%s", sorted(said), sorted(seen))
	}
	for place := range absent {
		if seen[place] {
			return fmt.Sprintf("the passport has it absent at %s, where the captures have it", place)
		}
	}
	return ""
}

// stayed says whether a Service is said to have given the pod itself as its backend, by a program at the socket: then there is
// no packet to be seen.
func (p passportSeen) stayed() bool {
	return p.Request != nil && p.Request.End == "it was answered, and did not leave the pod" && p.Answer == nil
}

func sorted(of map[string]bool) string { return strings.Join(slices.Sorted(maps.Keys(of)), "\n") }

// placeOf is a device as places are compared.
func placeOf(node, pod, device string) string {
	if pod != "" {
		return pod + ":" + device
	}
	return node + ":" + device
}

// in tells which frames are the probe's, and which its answer's. An echo is known by its payload. A SYN is the client's by
// address and port, and by its number where that is another's later on; what answers it acknowledges that number.
func (p passportSeen) in(pair pairOfEnds, captured []frame) func(frame) string {
	numbers := map[uint32]bool{}
	marker := cmp.Or(p.Probe.Marker, string(p.Probe.Watched.Payload))
	client := netip.AddrPortFrom(pair.client, p.Probe.Port)
	for _, f := range captured {
		if f.tcp != nil && f.tcp.SYN && !f.tcp.ACK && f.source == client {
			numbers[f.tcp.Seq] = true
		}
	}
	return func(f frame) string {
		switch {
		case f.tcp != nil && f.tcp.SYN && !f.tcp.ACK && numbers[f.tcp.Seq]:
			return "request"
		case f.tcp != nil && f.tcp.ACK && numbers[f.tcp.Ack-1]:
			return "answer"
		case f.echo == nil || marker == "" || !strings.HasPrefix(string(f.echo.Payload), marker):
			return ""
		case f.echo.TypeCode.Type() == layers.ICMPv4TypeEchoRequest:
			return "request"
		}
		return "answer"
	}
}

// frame is one at a device. What goes through a tunnel is what it carries.
type frame struct {
	at     string // as placeOf has it
	source netip.AddrPort
	tcp    *layers.TCP
	echo   *layers.ICMPv4
}

// readFrames are those of a capture's file.
func readFrames(t *testing.T, file string) (frames []frame) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return frames
		}
		if err != nil {
			t.Fatal(err)
		}
		at, err := r.Interface(info.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		node, _, _ := strings.Cut(strings.TrimPrefix(at.Comment, "node "), ",")
		found := readFrame(data, at.LinkType)
		if found.at = at.Name; !strings.Contains(at.Name, "/") { // a node's, without the name of its lab
			_, device, _ := strings.Cut(at.Name, ":")
			found.at = placeOf(node, "", device)
		}
		frames = append(frames, found)
	}
}

func readFrame(data []byte, as gopacket.Decoder) (f frame) {
	var source netip.Addr
	for _, l := range gopacket.NewPacket(data, as, gopacket.NoCopy).Layers() {
		switch l := l.(type) {
		case *layers.IPv4:
			source, _ = netip.AddrFromSlice(l.SrcIP)
		case *layers.UDP:
			if l.DstPort == 8472 { // not VXLAN's own, which the decoder knows
				return readFrame(l.Payload, layers.LayerTypeVXLAN)
			}
		case *layers.TCP:
			f.tcp, f.source = l, netip.AddrPortFrom(source, uint16(l.SrcPort))
		case *layers.ICMPv4:
			f.echo = l
		}
	}
	return f
}
