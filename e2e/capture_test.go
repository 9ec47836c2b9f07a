//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// testCapture captures pings at all points of their way at once: each is where the mode takes it, and nowhere else; with a
// command, and killed, nothing is left of the capture.
func testCapture(t *testing.T, name string) {
	// The nodes: where cni is, another one with the pod that it pings, and one that is not on the way.
	nodes := []string{kubectl(t, name, "get", "pod", "cni", "-o", "jsonpath={.spec.nodeName}")}
	for _, n := range strings.Fields(kubectl(t, name, "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}")) {
		if n != nodes[0] {
			nodes = append(nodes, n)
		}
	}
	far := strings.Fields(kubectl(t, name, "get", "pods", "-l", "app=demo", "--field-selector", "spec.nodeName="+nodes[1], "-o", "jsonpath={.items[0].metadata.name} {.items[0].status.podIP}"))
	for i := range nodes {
		nodes[i] = strings.TrimPrefix(nodes[i], name+"-")
	}
	file := filepath.Join(t.TempDir(), "way.pcapng")
	const pings = 5
	o := mustLab(t, "capture", "--name", name, "cni", nodes[0]+":eth0", nodes[1], nodes[2], far[0], "icmp and host "+far[1], "-w", file, "-o", "json",
		"--", labBin, "shell", "--name", name, "cni", "--", "ping", "-c", fmt.Sprint(pings), "-i", "0.2", "-W", "5", far[1])
	var said struct {
		File             string
		Packets, Dropped int
		Points           []struct {
			Name, Node, Device, Pod string
			Packets                 int
		}
	}
	if err := json.Unmarshal([]byte(o.stdout), &said); err != nil || said.File != file || said.Dropped != 0 || len(said.Points) != 7 {
		t.Fatalf("lab capture -o json says %s: %v", o.stdout, err)
	}
	got := readCapture(t, file)
	// What is sent to a pod is put into its eth0, past the other end of that.
	want := map[string]seen{
		"default/cni:eth0":                   {pings, pings},
		said.Points[1].Name:                  {pings, 0},
		nodes[0] + ":eth0":                   {pings, pings},
		nodes[1] + ":eth0":                   {pings, pings},
		nodes[2] + ":eth0":                   {0, 0},
		"default/" + far[0] + ":eth0":        {pings, pings},
		said.Points[len(said.Points)-1].Name: {0, pings},
	}
	packets := 0
	for i, p := range said.Points {
		packets += p.Packets
		s, asked := want[p.Name]
		if !asked || got[p.Name] != s || p.Packets != s.requests+s.replies {
			t.Errorf("point %d, %s: %+v in the file, %d counted; want %+v of %v", i, p.Name, got[p.Name], p.Packets, s, want)
		}
	}
	if packets != said.Packets || !strings.HasPrefix(said.Points[1].Name, nodes[0]+":lxc") || said.Points[1].Pod != "default/cni" {
		t.Errorf("lab capture says %+v", said)
	}
	readByOthers(t, file, said.Packets)

	lines := mustLab(t, "capture", "--name", name, "cni", "icmp and host "+far[1], "--",
		labBin, "shell", "--name", name, "cni", "--", "ping", "-c", "1", "-W", "5", far[1]).stdout
	for _, want := range []string{
		" default/cni:eth0 out ICMPv4 ", " lxc", " > " + far[1] + ", TTL 64, 84 bytes: echo request, ",
		" default/cni:eth0 in  ICMPv4 " + far[1] + " > ", ": echo reply, ",
	} {
		if !strings.Contains(lines, want) || strings.Count(lines, "\n") != 3 {
			t.Errorf("lab capture prints\n%swant three lines, in one of them %q", lines, want)
		}
	}
	testCaptureRefuses(t, name)
	testCaptureEnds(t, name)
}

// seen is how many pings were seen.
type seen struct{ requests, replies int }

// readCapture counts the pings in a file by the name of their interface, whose times do not go back.
func readCapture(t *testing.T, file string) map[string]seen {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]seen{}
	for last := (time.Time{}); ; {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if info.Timestamp.Before(last) {
			t.Errorf("a packet of %s is behind one of %s", info.Timestamp, last)
		}
		last = info.Timestamp
		at, err := r.Interface(info.InterfaceIndex)
		if err != nil || !strings.Contains(at.Comment, "node ") || !strings.Contains(at.Comment, "device ") || at.Description == "" {
			t.Fatalf("interface %d: %+v, %v", info.InterfaceIndex, at, err)
		}
		echo, _ := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.NoCopy).Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		s := out[at.Name]
		switch {
		case echo == nil:
			t.Errorf("not a ping at %s: %x", at.Name, data)
		case echo.TypeCode.Type() == layers.ICMPv4TypeEchoRequest:
			s.requests++
		default:
			s.replies++
		}
		out[at.Name] = s
	}
}

// readByOthers has the tools of Wireshark read the file, where this machine has them.
func readByOthers(t *testing.T, file string, packets int) {
	t.Helper()
	if _, err := exec.LookPath("capinfos"); err == nil {
		out, err := command("capinfos", "-M", "-c", file)
		if err != nil || !strings.Contains(out, fmt.Sprintf("Number of packets:   %d", packets)) {
			t.Errorf("capinfos: %v: %s", err, out)
		}
	}
	if _, err := exec.LookPath("tshark"); err == nil {
		out, err := command("tshark", "-r", file, "-Y", "icmp", "-T", "fields", "-e", "frame.interface_name")
		if err != nil || strings.Count(out, "\n")+1 != packets || !strings.Contains(out, "default/cni:eth0") {
			t.Errorf("tshark: %v: %s", err, out)
		}
	}
}

// testCaptureRefuses: what cannot be captured is known before a command runs.
func testCaptureRefuses(t *testing.T, name string) {
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"worker:eth9", 1, `no device "eth9": there are `},
		{"cni:eth9", 1, `pod default/cni: no device "eth9": there are lo, eth0`},
		{"cni worker icmp andd", 1, `tcpdump refuses the filter "icmp andd": can't parse filter expression: syntax error`},
		{"no-such-pod", 2, "neither a node nor a pod"},
		{"kube-system/etcd", 1, "has no devices but its node's: capture at " + name + "-control-plane instead"},
		{"cni -w /no/such/file", 1, "packets cannot be written: open /no/such/file"},
	} {
		o := lab(t, append(append([]string{"capture", "--name", name}, strings.Fields(tt.args)...), "--", "echo", "it runs")...)
		if o.code != tt.code || !strings.Contains(o.stderr, tt.want) || strings.Contains(o.stderr, "it runs") {
			t.Errorf("lab capture %s: exit %d, %s; want %d, %s", tt.args, o.code, o.stderr, tt.code, tt.want)
		}
	}
}

// testCaptureEnds: nothing listens on the nodes any more, however lab ended.
func testCaptureEnds(t *testing.T, name string) {
	listening := func() (nodes int) {
		for _, node := range []string{"-worker", "-worker2"} {
			if strings.Contains(onNode(t, name+node, "ps", "axo", "args"), " tap\n") {
				nodes++
			}
		}
		return nodes
	}
	nothingLeft := func() {
		t.Helper()
		eventually(t, 20*time.Second, "nothing listens on the nodes", func() string {
			if n := listening(); n > 0 {
				return fmt.Sprintf("%d nodes", n)
			}
			return ""
		})
	}
	nothingLeft()
	killed, stdout, stderr := labCommand(t.Context(), "capture", "--name", name, "worker", "worker2", "-o", "json")
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "lab listens on both nodes", func() string {
		if n := listening(); n != 2 {
			return fmt.Sprintf("on %d", n)
		}
		return ""
	})
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()
	t.Logf("until it was killed: %d bytes, %s", stdout.Len(), stderr)
	nothingLeft()
}
