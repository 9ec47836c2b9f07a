package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/verify/probe"
)

// asNettool makes the test binary behave as nettool, so that tests can run it
// in a namespace.
const asNettool = "WIRELAB_TEST_AS_NETTOOL"

func TestMain(m *testing.M) {
	if os.Getenv(asNettool) == "1" {
		main()
	}
	os.Exit(m.Run())
}

// wire is two hosts at the ends of one cable, with MTU 1400.
type wire struct {
	left, right         *netnstest.NS
	leftAddr, rightAddr netip.Addr
}

func newWire(t *testing.T) wire {
	t.Helper()
	netnstest.RequireRoot(t)
	t.Setenv(asNettool, "1")
	w := wire{netnstest.New(t, "left"), netnstest.New(t, "right"), netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")}
	netnstest.Connect(w.left, "eth0", w.right, "eth0")
	w.left.AddAddr("eth0", netip.PrefixFrom(w.leftAddr, 24))
	w.right.AddAddr("eth0", netip.PrefixFrom(w.rightAddr, 24))
	for _, ns := range []*netnstest.NS{w.left, w.right} {
		ns.Run("ip", "link", "set", "eth0", "mtu", "1400")
	}
	return w
}

// ask runs one probe in a namespace and reads its reply.
func ask(t *testing.T, ns *netnstest.NS, request probe.Request) (reply probe.Reply) {
	t.Helper()
	request.ID = "ask"
	line, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, os.Args[0], "probe", "batch")
	command.Stdin = bytes.NewReader(line)
	var out []byte
	ns.Do(func() { out, err = command.Output() })
	if err != nil {
		t.Fatalf("nettool probe batch <<< %s: %v", line, err)
	}
	if err := json.Unmarshal(out, &reply); err != nil {
		t.Fatalf("nettool probe batch <<< %s: %v: %s", line, err, out)
	}
	return reply
}

func icmp(to string, spec probe.ICMP) probe.Request {
	spec.Address = netip.MustParseAddr(to)
	return probe.Request{ICMP: &spec}
}

func TestICMPOnAWire(t *testing.T) {
	w := newWire(t)
	reply := ask(t, w.left, icmp(w.rightAddr.String(), probe.ICMP{Count: 2, Size: 1372, DF: true}))
	if reply.Failure != "" || reply.Error != "" || reply.ICMP.Received != 2 || reply.ICMP.TTL != 64 || reply.ICMP.From != w.rightAddr {
		t.Errorf("%+v %+v", reply, reply.ICMP)
	}
	if reply := ask(t, w.left, icmp(w.rightAddr.String(), probe.ICMP{Size: 1373, DF: true})); !strings.Contains(reply.Failure, "does not fit the MTU") {
		t.Errorf("%+v", reply)
	}
	if reply := ask(t, w.left, icmp(w.rightAddr.String(), probe.ICMP{Size: 5000})); reply.Failure != "" {
		t.Errorf("fragments do not arrive: %+v", reply)
	}
	silent := icmp("10.9.0.77", probe.ICMP{})
	silent.Timeout = probe.Duration(200 * time.Millisecond)
	if reply := ask(t, w.left, silent); reply.Failure == "" || reply.ICMP.Received != 0 {
		t.Errorf("%+v", reply)
	}
	if reply := ask(t, w.left, probe.Request{UDP: &probe.UDP{Address: netip.AddrPortFrom(w.rightAddr, 9), Size: 1373, DF: true}}); !strings.Contains(reply.Failure, "does not fit the MTU") {
		t.Errorf("%+v", reply)
	}
}

// An expired TTL, and what is too large, is answered by the router on the way, which the failure names.
func TestICMPErrorsAreTold(t *testing.T) {
	w := newWire(t)
	w.left.AddRoute(netip.MustParsePrefix("10.10.0.0/24"), w.rightAddr)
	w.right.Sysctl("net/ipv4/ip_forward", "1")
	w.right.Run("ip", "addr", "add", "10.10.0.1/24", "dev", "lo")
	far := netnstest.New(t, "far")
	netnstest.Connect(w.right, "eth1", far, "eth0")
	w.right.Run("ip", "route", "add", "10.10.0.9/32", "dev", "eth1")
	if reply := ask(t, w.left, icmp("10.10.0.9", probe.ICMP{TTL: 1})); !strings.Contains(reply.Failure, "10.9.0.2 answered: time exceeded") {
		t.Errorf("%+v", reply)
	}
	w.right.Run("ip", "link", "set", "eth1", "mtu", "1300")
	if reply := ask(t, w.left, icmp("10.10.0.9", probe.ICMP{Size: 1273, DF: true})); !strings.Contains(reply.Failure, "10.9.0.2 answered: more than its MTU 1300") || reply.ICMP.MTU != 1300 {
		t.Errorf("%+v %+v", reply, reply.ICMP)
	}
}

func TestARPOnAWire(t *testing.T) {
	w := newWire(t)
	arp := func(addr netip.Addr) probe.Request {
		return probe.Request{Timeout: probe.Duration(2 * time.Second), ARP: &probe.ARP{Interface: "eth0", Address: addr}}
	}
	reply := ask(t, w.left, arp(w.rightAddr))
	if reply.Failure != "" || reply.Error != "" {
		t.Fatalf("%+v", reply)
	}
	link := w.right.Run("ip", "-o", "link", "show", "eth0")
	if !strings.Contains(link, reply.ARP.MAC) || reply.ARP.FrameMAC != reply.ARP.MAC {
		t.Errorf("%s answered in a frame of %s; the device is %s", reply.ARP.MAC, reply.ARP.FrameMAC, link)
	}
	silent := arp(netip.MustParseAddr("10.9.0.77"))
	silent.Timeout = probe.Duration(200 * time.Millisecond)
	if reply := ask(t, w.left, silent); !strings.Contains(reply.Failure, "nobody says who has 10.9.0.77") {
		t.Errorf("%+v", reply)
	}
}

// captureOn starts a capture and returns when it is under way.
func captureOn(t *testing.T, ns *netnstest.NS, capture probe.Capture, timeout time.Duration) func() probe.Reply {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	command := exec.CommandContext(ctx, os.Args[0], "probe", "batch")
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	ns.Do(func() { err = command.Start() })
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(stdin).Encode(probe.Request{ID: "c", Timeout: probe.Duration(timeout), Capture: &capture}); err != nil {
		t.Fatal(err)
	}
	replies := json.NewDecoder(stdout)
	next := func() (reply probe.Reply) {
		if err := replies.Decode(&reply); err != nil {
			t.Fatal(err)
		}
		return reply
	}
	if first := next(); !first.Ready {
		t.Fatalf("the capture is not ready: %+v", first)
	}
	return func() probe.Reply {
		last := next()
		if err := stdin.Close(); err != nil {
			t.Error(err)
		}
		if err := command.Wait(); err != nil {
			t.Error(err)
		}
		return last
	}
}

func TestForgedPacketsAreCaptured(t *testing.T) {
	w := newWire(t)
	last := probe.Filter{Contains: "the end"}
	end := captureOn(t, w.right, probe.Capture{Interface: "eth0", Filter: probe.Filter{Direction: probe.In, Protocol: "udp", Contains: "token"}, Until: &last}, 10*time.Second)
	for _, send := range []struct {
		from     string
		protocol string
		payload  string
		count    int
	}{
		{"192.0.2.7:1000", "udp", "token forged", 1},
		{"10.9.0.1:1000", "udp", "other", 1},
		{"10.9.0.1:1001", "udp", "token own", 2},
		{"192.0.2.7:5", "icmp", "token icmp", 1},
		{"10.9.0.1:1002", "udp", "the end", 1},
	} {
		from := netip.MustParseAddrPort(send.from)
		if reply := ask(t, w.left, probe.Request{Send: &probe.Send{
			Protocol: send.protocol, Source: from.Addr(), SourcePort: from.Port(), Destination: w.rightAddr, DestinationPort: 2000,
			Payload: send.payload, Count: send.count,
		}}); reply.Failure != "" || reply.Error != "" {
			t.Fatalf("%+v", reply)
		}
	}
	reply := end()
	if reply.Failure != "" || len(reply.Capture.Packets) != 4 || reply.Capture.Lost != 0 {
		t.Fatalf("%+v %+v", reply, reply.Capture)
	}
	forged, own, final := reply.Capture.Packets[0], reply.Capture.Packets[2], reply.Capture.Packets[3]
	if forged.Source != netip.MustParseAddr("192.0.2.7") || forged.SourcePort != 1000 || forged.DestinationPort != 2000 || forged.TTL != 64 || !forged.DF || forged.Direction != probe.In || forged.SourceMAC == "" {
		t.Errorf("forged: %+v", forged)
	}
	if own.Source != w.leftAddr || own.Payload != "token own" || final.Payload != "the end" {
		t.Errorf("own: %+v, last: %+v", own, final)
	}
}

func TestCaptureOfBothDirections(t *testing.T) {
	w := newWire(t)
	end := captureOn(t, w.right, probe.Capture{Interface: "eth0", Filter: probe.Filter{Protocol: "icmp"}, Count: 2}, 10*time.Second)
	if reply := ask(t, w.left, icmp(w.rightAddr.String(), probe.ICMP{})); reply.Failure != "" {
		t.Fatalf("%+v", reply)
	}
	reply := end()
	packets := reply.Capture.Packets
	if len(packets) != 2 || packets[0].Direction != probe.In || packets[0].ICMPType != 8 || packets[1].Direction != probe.Out || packets[1].ICMPType != 0 || packets[0].ICMPID != packets[1].ICMPID {
		t.Errorf("%+v", packets)
	}
}

func TestCaptureThatSeesNothing(t *testing.T) {
	w := newWire(t)
	waits := captureOn(t, w.right, probe.Capture{Interface: "eth0", Count: 1, Filter: probe.Filter{Contains: "never"}}, 200*time.Millisecond)()
	if !strings.Contains(waits.Failure, "did not see what it waited for") || len(waits.Capture.Packets) != 0 {
		t.Errorf("%+v", waits)
	}
	watches := captureOn(t, w.right, probe.Capture{Interface: "eth0", Filter: probe.Filter{Contains: "never"}}, 200*time.Millisecond)()
	if watches.Failure != "" || watches.Error != "" {
		t.Errorf("a capture without an end of its own failed: %+v", watches)
	}
}

func TestCommandLine(t *testing.T) {
	for _, test := range []struct {
		args string
		code int
		want string // in the error
	}{
		{"", 2, "no command given"},
		{"nonsense", 2, `unknown command "nonsense"`},
		{"probe nonsense", 2, `unknown command "nonsense"`},
		{"probe http", 2, "accepts 1 arg(s)"},
		{"probe http x --source nobody", 2, "read --source"},
		{"probe http x --nonsense", 2, "unknown flag"},
		{"serve --listen nowhere", 2, "read --listen"},
		{"probe http 127.0.0.1:1", 1, ""},
		{"--version", 0, ""},
		{"probe --help", 0, ""},
	} {
		var stdout, stderr bytes.Buffer
		err := run(t.Context(), strings.Fields(test.args), strings.NewReader(""), &stdout, &stderr)
		if code := exitCode(err); code != test.code || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("nettool %s: status %d, error %v; want %d, %q", test.args, code, err, test.code, test.want)
		}
		if test.code == 2 && stdout.Len() > 0 {
			t.Errorf("nettool %s: printed %q as if it were a result", test.args, stdout.String())
		}
	}
}

func TestServeUntilTheSignal(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	stderr := writerFunc(func(b []byte) (int, error) {
		if strings.Contains(string(b), "serving") {
			close(started)
		}
		return len(b), nil
	})
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"serve", "--listen", "127.0.0.1:0"}, strings.NewReader(""), &bytes.Buffer{}, stderr)
	}()
	<-started
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
