package passport

import (
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// TestWatchedIsAsSent: the passport of a packet that was watched for says of it what that of the same packet says that was sent,
// though nothing is known of it before it comes.
func TestWatchedIsAsSent(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	for _, file := range files {
		in := recorded(t, file)
		if in.Probe.From.Kind != Pod {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			want := words(Make(in))
			p, sights := watchFor(t, in)
			in.Probe, in.Sights = p, append(sights, sights...) // alike, as of one that sends again
			if got := words(Make(in)); got != want {
				t.Errorf("watched for it says\n%swant\n%s", got, want)
			}
		})
	}
}

// watchFor has a watcher see what was captured of a probe.
func watchFor(t *testing.T, in Input) (Probe, []Sight) {
	t.Helper()
	p, asked := in.Probe, Make(in)
	p.Port, p.Marker = 0, ""
	targets := asked.Request.Hops
	w := NewWatcher(p, nil)
	w.targets = append(w.targets, p.Target)
	for _, h := range targets {
		if h.Packet != nil {
			if !w.probe.Source.IsValid() {
				w.probe.Source = h.Packet.Src.Addr()
			}
			w.targets = append(w.targets, h.Packet.Dst)
		}
	}
	came, answer := false, false
	for _, s := range in.Sights {
		came, answer = w.See(in.Points[s.Point], s)
	}
	if !came || answer != (asked.Answer != nil) {
		t.Fatalf("it came: %t, was answered: %t, want true, %t", came, answer, asked.Answer != nil)
	}
	return w.Probe(), in.Sights
}

// segment is a frame of TCP between a pod and a Service's port, with some data.
func segment(t *testing.T, from, to string, tcp layers.TCP, data string) []byte {
	t.Helper()
	src, dst := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
	ip := &layers.IPv4{Version: 4, TTL: 64, Id: 7, Protocol: layers.IPProtocolTCP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
	tcp.SrcPort, tcp.DstPort = layers.TCPPort(src.Port()), layers.TCPPort(dst.Port())
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6), EthernetType: layers.EthernetTypeIPv4},
		ip, &tcp, gopacket.Payload(data))
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestWatcher: it takes the next packet that the pod sends to the target and that is to be answered, and no other, and what
// acknowledges all of it is its answer.
func TestWatcher(t *testing.T) {
	const pod, service, backend = "10.0.0.3:4000", "10.96.0.9:80", "10.0.1.4:8080"
	ack := func(seq, ack uint32) layers.TCP { return layers.TCP{Seq: seq, Ack: ack, ACK: true} }
	probe := Probe{Protocol: TCP, From: End{Name: "default/cni", Kind: Pod}, Source: netip.MustParseAddr("10.0.0.3")}
	w := NewWatcher(probe, []netip.AddrPort{netip.MustParseAddrPort(service), netip.MustParseAddrPort(backend)})
	inPod, onNode, other := Point{Pod: "default/cni", Device: "eth0"}, Point{Pod: "default/cni", Host: true, Device: "lxc1"}, Point{Pod: "default/demo", Device: "eth0"}
	for _, c := range []struct {
		name         string
		at           Point
		out          bool
		frame        []byte
		came, answer bool
	}{
		{"at the other end of the veth", onNode, true, segment(t, pod, service, ack(1, 1), "data"), false, false},
		{"of another pod", other, true, segment(t, pod, service, ack(1, 1), "data"), false, false},
		{"to another port", inPod, true, segment(t, pod, "10.96.0.9:81", ack(1, 1), "data"), false, false},
		{"from another address", inPod, true, segment(t, "10.0.0.9:4000", service, ack(1, 1), "data"), false, false},
		{"what comes in", inPod, false, segment(t, pod, service, ack(1, 1), "data"), false, false},
		{"an acknowledgement alone", inPod, true, segment(t, pod, backend, ack(100, 1), ""), false, false},
		{"data to a backend", inPod, true, segment(t, pod, backend, ack(100, 1), "data"), true, false},
		{"what acknowledges less", inPod, false, segment(t, backend, pod, ack(1, 103), ""), true, false},
		{"what acknowledges it from elsewhere", inPod, false, segment(t, service, pod, ack(1, 104), ""), true, false},
		{"what acknowledges it", inPod, false, segment(t, backend, pod, ack(1, 104), ""), true, true},
		{"and what comes later", inPod, true, segment(t, pod, backend, ack(104, 1), "more"), true, true},
	} {
		if came, answer := w.See(c.at, Sight{Time: time.Now(), Out: c.out, Data: c.frame}); came != c.came || answer != c.answer {
			t.Fatalf("%s: it came: %t, was answered: %t, want %t, %t", c.name, came, answer, c.came, c.answer)
		}
	}
	if p := w.Probe(); p.Port != 4000 || p.Watched.Seq != 100 || string(p.Watched.Payload) != "data" || w.Failed() != "" {
		t.Errorf("it is %+v, %+v, failed %q", p, p.Watched, w.Failed())
	}
}

// TestWatcherFailed: nothing, and what refuses, is no answer.
func TestWatcherFailed(t *testing.T) {
	const pod, server = "10.0.0.3:4000", "10.0.1.4:8080"
	for want, tcp := range map[string]layers.TCP{
		"":                           {Seq: 9, Ack: 101, SYN: true, ACK: true},
		"RST ACK from 10.0.1.4:8080": {Ack: 101, RST: true, ACK: true},
		"no answer":                  {Seq: 9, Ack: 50, ACK: true},
	} {
		w := NewWatcher(Probe{Protocol: TCP, From: End{Name: "default/cni"}, Source: netip.MustParseAddr("10.0.0.3")}, []netip.AddrPort{netip.MustParseAddrPort(server)})
		at := Point{Pod: "default/cni", Device: "eth0"}
		w.See(at, Sight{Out: true, Data: segment(t, pod, server, layers.TCP{Seq: 100, SYN: true}, "")})
		w.See(at, Sight{Data: segment(t, server, pod, tcp, "")})
		if got := w.Failed(); got != want {
			t.Errorf("with %+v it failed with %q, want %q", tcp, got, want)
		}
	}
}

// TestHooksOfWatched: of what hooks have noted that counts which is the packet, or its answer, before and behind their rules.
func TestHooksOfWatched(t *testing.T) {
	in := recorded(t, "testdata/kubeproxy-across.json")
	p, _ := watchFor(t, in)
	in.Probe = p
	is, ends := *p.Watched, Make(in).Request.Hops[0].Packet
	its := HookPacket{Src: ends.Src.Addr(), Dst: ends.Dst.Addr(), Seq: is.Seq, Length: is.Length, ID: is.ID}
	behind, another, longer, reply := its, its, its, its
	behind.Behind, another.ID, longer.Length, reply.Reply = true, is.ID+1, is.Length+1, true
	for i := range in.Nodes {
		in.Nodes[i].Hooks = []Hook{
			{Name: forward, Packets: []HookPacket{another, its, longer, behind, reply}},
			{Name: input, Packets: []HookPacket{another, longer}},
		}
	}
	m := newMatcher(p, packetsOf(sightsOf(in), nil))
	for _, n := range m.countHooks(in.Nodes) {
		if got := n.Hooks[0].Request; got != (Count{In: 1, Out: 1}) {
			t.Errorf("at FORWARD of %s %+v", n.Name, got)
		}
		if got := n.Hooks[1].Request; got != (Count{}) {
			t.Errorf("at INPUT of %s %+v of others", n.Name, got)
		}
	}
}
