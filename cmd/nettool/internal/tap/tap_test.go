package tap

import (
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/verify/probe"
)

// world is a node and a pod: two namespaces with a veth between them, and a process in the pod by whose cgroup it is found.
type world struct {
	node, pod *netnstest.NS
	container string
}

func newWorld(t *testing.T) *world {
	w := &world{node: netnstest.New(t, "node"), pod: netnstest.New(t, "pod")}
	netnstest.Connect(w.node, "lxc1", w.pod, "eth0")
	w.node.AddAddr("lxc1", netip.MustParsePrefix("10.9.0.1/24"))
	w.pod.AddAddr("eth0", netip.MustParsePrefix("10.9.0.2/24"))
	cgroup := netnstest.NewCgroup(t)
	w.container = filepath.Base(cgroup.Path)
	sleep := exec.Command("sleep", "600")
	sleep.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	var err error
	w.pod.Do(func() { err = sleep.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sleep.Process.Kill(); _ = sleep.Wait() })
	return w
}

// listening is a tap at work.
type listening struct {
	t    *testing.T
	dec  *gob.Decoder
	in   io.Closer
	over chan error
}

func (w *world) listen(t *testing.T, where probe.Tap) (*listening, []probe.TapDevice) {
	t.Helper()
	in, stdin := io.Pipe()
	stdout, out := io.Pipe()
	l := &listening{t: t, dec: gob.NewDecoder(stdout), in: stdin, over: make(chan error, 1)}
	go w.node.Do(func() {
		err := Run(context.WithoutCancel(t.Context()), in, out)
		_ = out.CloseWithError(errors.Join(err, io.EOF))
		l.over <- err
	})
	t.Cleanup(func() { _ = stdin.Close(); _ = stdout.Close() })
	if err := json.NewEncoder(stdin).Encode(where); err != nil {
		t.Fatal(err)
	}
	return l, l.next().Listening
}

func (l *listening) next() (said probe.Tapped) {
	l.t.Helper()
	if err := l.dec.Decode(&said); err != nil {
		l.t.Fatalf("the tap tells no more: %v", err)
	}
	return said
}

// noTurn is how long the CPU that takes a packet in may have no turn here.
const noTurn = time.Second

// until returns the packets at each point up to that time, as a mark says. No packet is behind a mark by more than noTurn.
func (l *listening) until(end time.Time, points int) [][]probe.TapPacket {
	l.t.Helper()
	out := make([][]probe.TapPacket, points)
	for marked := (time.Time{}); ; {
		switch said := l.next(); {
		case said.Packet != nil:
			if behind := marked.Sub(said.Packet.At); behind > noTurn {
				l.t.Errorf("a packet of %s is behind a mark of %s", said.Packet.At, marked)
			}
			out[said.Packet.Point] = append(out[said.Packet.Point], *said.Packet)
		case said.Mark != nil:
			marked = said.Mark.UpTo
			if marked.After(end) {
				return out
			}
		}
	}
}

// send sends a datagram out of a namespace to a port of an address.
func send(t *testing.T, from *netnstest.NS, to, payload string) {
	t.Helper()
	var err error
	from.Do(func() {
		var c net.Conn
		if c, err = net.Dial("udp4", to); err == nil {
			_, err = io.WriteString(c, payload)
			_ = c.Close()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// count counts datagrams, not the errors that quote them.
func count(packets []probe.TapPacket, payload string, out bool) (n int) {
	const protocol = 14 + 9 // where IPv4 has it, behind the Ethernet header
	for _, p := range packets {
		if strings.HasSuffix(string(p.Data), payload) && p.Data[protocol] == unix.IPPROTO_UDP && p.Out == out {
			n++
		}
	}
	return n
}

// TestTap: a packet is told at both ends of a veth and at a tunnel's kind of device, each once, in its direction, with its
// time; and what has not been asked for is not.
func TestTap(t *testing.T) {
	w := newWorld(t)
	w.node.Run("ip", "tuntap", "add", "tun0", "mode", "tun")
	l, devices := w.listen(t, probe.Tap{Points: []probe.TapPoint{
		{Container: w.container, Device: "eth0"},
		{Container: w.container, Device: "eth0", Peer: true},
		{Address: netip.MustParseAddr("10.9.0.1")},
		{Device: "lo"},
		{Device: "tun0"},
	}})
	for i := range devices {
		if ether := i < 3; ether == (devices[i].MAC == "") {
			t.Errorf("%s has the MAC %q", devices[i].Name, devices[i].MAC)
		}
		devices[i].MAC = ""
	}
	if want := []probe.TapDevice{{Name: "eth0"}, {Name: "lxc1"}, {Name: "lxc1"}, {Name: "lo"}, {Name: "tun0", Raw: true}}; !slices.Equal(devices, want) {
		t.Fatalf("listens at %+v, want %+v", devices, want)
	}
	began := time.Now()
	send(t, w.pod, "10.9.0.1:9", "to the node")
	send(t, w.node, "10.9.0.2:9", "to the pod")
	send(t, w.node, "127.0.0.1:9", "to itself")
	ended := time.Now()
	seen := l.until(ended, len(devices))
	for i, want := range [][3]int{{1, 1, 0}, {1, 1, 0}, {1, 1, 0}, {0, 0, 1}, {0, 0, 0}} {
		out := i == 0 // to the node it goes out of the pod
		got := [3]int{count(seen[i], "to the node", out), count(seen[i], "to the pod", !out), count(seen[i], "to itself", false)}
		if got != want || count(seen[i], "to the node", !out)+count(seen[i], "to the pod", out)+count(seen[i], "to itself", true) > 0 {
			t.Errorf("at %s %v packets, want %v", devices[i].Name, got, want)
		}
		for k, p := range seen[i] {
			if p.At.Before(began.Add(-time.Second)) || p.At.After(ended.Add(time.Second)) || p.Length != len(p.Data) {
				t.Errorf("packet %d at %s: at %s, %d bytes of %d; it was sent between %s and %s", k, devices[i].Name, p.At, len(p.Data), p.Length, began, ended)
			}
		}
	}
	_ = l.in.Close()
	for {
		var said probe.Tapped
		if err := l.dec.Decode(&said); err != nil {
			break
		}
	}
	if err := <-l.over; err != nil {
		t.Errorf("the end of its input is the end of it: %v", err)
	}
}

// TestTapIsBehind: packets that nobody takes are dropped by the kernel and counted, and those that it has are told.
func TestTapIsBehind(t *testing.T) {
	w := newWorld(t)
	l, _ := w.listen(t, probe.Tap{Points: []probe.TapPoint{{Device: "lxc1"}}})
	const sent, size = 20000, 16 << 10
	w.node.Do(func() {
		c, err := net.Dial("udp4", "10.9.0.2:9")
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for range sent {
			_, _ = c.Write(make([]byte, size)) // an answer that nobody listens is an error here
		}
	})
	ended := time.Now()
	frames, dropped := 0, 0
	for {
		said := l.next()
		if said.Packet != nil && said.Packet.Out {
			frames++
		}
		if said.Mark != nil {
			dropped = said.Mark.Dropped[0]
			if said.Mark.UpTo.After(ended) {
				break
			}
		}
	}
	if dropped == 0 || frames == 0 {
		t.Errorf("%d packets told, %d dropped, of those of %d datagrams of %d bytes", frames, dropped, sent, size)
	}
}

// TestTapOfADeviceThatGoes: it is said, the others go on, and without any there is an end.
func TestTapOfADeviceThatGoes(t *testing.T) {
	w := newWorld(t)
	netnstest.Connect(w.node, "lxc2", netnstest.New(t, "other"), "eth0")
	l, _ := w.listen(t, probe.Tap{Points: []probe.TapPoint{{Device: "lxc1"}, {Device: "lxc2"}}})
	w.node.Run("ip", "link", "set", "lxc1", "down")
	w.node.Run("ip", "link", "set", "lxc1", "up")
	w.node.Run("ip", "link", "del", "lxc2")
	gone := func() *probe.TapGone {
		for {
			if said := l.next(); said.Gone != nil {
				return said.Gone
			}
		}
	}
	if g := gone(); g.Point != 1 || g.Why != "the device is gone" {
		t.Errorf("said: %+v", g)
	}
	send(t, w.node, "10.9.0.2:9", "still here")
	if seen := l.until(time.Now(), 2); count(seen[0], "still here", true) != 1 {
		t.Errorf("at a device that was down for a moment: %d packets", len(seen[0]))
	}
	w.node.Run("ip", "link", "del", "lxc1")
	if g := gone(); g.Point != 0 {
		t.Errorf("said: %+v", g)
	}
	for {
		var said probe.Tapped
		if err := l.dec.Decode(&said); err != nil {
			break
		}
	}
	if err := <-l.over; err == nil || err.Error() != "no device is left to listen at" {
		t.Errorf("it ended with %v", err)
	}
}

// TestTapRefuses: what cannot be listened at is named, with what there is.
func TestTapRefuses(t *testing.T) {
	w := newWorld(t)
	w.node.Run("ip", "link", "set", "lxc1", "alias", "default/cni")
	for _, tt := range []struct {
		name string
		at   probe.TapPoint
		want string
	}{
		{"no such device", probe.TapPoint{Device: "eth9"}, `no device "eth9": there are lo, lxc1 (default/cni)`},
		{"in a pod", probe.TapPoint{Container: w.container, Pod: "default/cni", Device: "eth9"}, `pod default/cni: no device "eth9": there are lo, eth0`},
		{"no such address", probe.TapPoint{Address: netip.MustParseAddr("10.9.0.7")}, "no device has the address 10.9.0.7"},
		{"no such container", probe.TapPoint{Container: "0123456789abcdef", Pod: "default/cni", Device: "eth0"}, "pod default/cni: no process runs in its container, 0123456789abcdef"},
		{"no other end", probe.TapPoint{Container: w.container, Device: "lo", Peer: true}, "find the other end of lo: no device of index 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var err error
			w.node.Do(func() { _, err = open(t.Context(), tt.at, "") })
			if err == nil || err.Error() != tt.want {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}

// TestFilter: tcpdump's language picks packets, by what only devices know of them, too; what it refuses is said in its words.
func TestFilter(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil && os.Getenv(netnstest.StrictEnv) != "1" {
		t.Skip("this test needs tcpdump")
	}
	w := newWorld(t)
	for _, tt := range []struct {
		filter  string
		in, out int
	}{
		{"udp dst port 9 and dst host 10.9.0.1", 1, 0},
		{"udp and outbound", 0, 1},
		{"", 1, 1},
	} {
		l, _ := w.listen(t, probe.Tap{Points: []probe.TapPoint{{Device: "lxc1"}}, Filter: tt.filter})
		send(t, w.pod, "10.9.0.1:9", "filtered")
		send(t, w.node, "10.9.0.2:9", "filtered")
		seen := l.until(time.Now(), 1)[0]
		if in, out := count(seen, "filtered", false), count(seen, "filtered", true); in != tt.in || out != tt.out || tt.filter != "" && len(seen) != in+out {
			t.Errorf("%q picks %d of %d that came in and %d that went out, want %d and %d", tt.filter, in, len(seen), out, tt.in, tt.out)
		}
	}
	refuses := func(filter string) error {
		var err error
		w.node.Do(func() { _, err = open(t.Context(), probe.TapPoint{Device: "lxc1"}, filter) })
		return err
	}
	for filter, want := range map[string]string{
		"icmp andd":   `tcpdump refuses the filter "icmp andd": can't parse filter expression: syntax error`,
		"tcp and udp": `tcpdump refuses the filter "tcp and udp": expression rejects all packets`,
		"-w /tmp/x":   `tcpdump refuses the filter "-w /tmp/x": can't parse filter expression: syntax error`,
	} {
		if err := refuses(filter); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if err := refuses("icmp"); err == nil || !strings.HasPrefix(err.Error(), "no tcpdump") {
		t.Errorf("without tcpdump: %v", err)
	}
}

// TestProve: a point is proven when a frame has crossed it, and said not to be where none can.
func TestProve(t *testing.T) {
	w := newWorld(t)
	w.node.Run("ip", "tuntap", "add", "tun0", "mode", "tun")
	w.node.Run("ip", "link", "add", "veth0", "up", "type", "veth", "peer", "name", "veth1")
	w.node.Run("ip", "link", "set", "veth1", "up")
	w.node.Run("ip", "link", "add", "off0", "type", "veth", "peer", "name", "off1")
	l, devices := w.listen(t, probe.Tap{Prove: true, Points: []probe.TapPoint{
		{Container: w.container, Device: "eth0"},
		{Container: w.container, Device: "eth0", Peer: true},
		{Device: "veth0"},
		{Device: "tun0"},
		{Device: "off0"},
	}})
	var unproven []string
	for _, d := range devices {
		unproven = append(unproven, d.Unproven)
	}
	want := []string{"", "", "", "a device without frames of Ethernet shows none", "send a frame to be seen: write packet: network is down"}
	if !slices.Equal(unproven, want) {
		t.Errorf("unproven: %q, want %q", unproven, want)
	}
	for i, packets := range l.until(time.Now(), len(devices)) {
		for _, p := range packets {
			if p.Data[12] == 0x88 && p.Data[13] == 0xb5 {
				t.Errorf("a frame that proves point %d is told as a packet", i)
			}
		}
	}
}
