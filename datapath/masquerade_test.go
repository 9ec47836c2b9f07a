package datapath_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/internal/settings"
)

const natFirst = 49152 // of the ports that flows get

// inMasqueradeModes runs a test where BPF masquerades.
func inMasqueradeModes(t *testing.T, f func(*testing.T, setup)) {
	t.Run("BPF masquerade", func(t *testing.T) { f(t, masqueraded) })
	t.Run("ebpf", func(t *testing.T) { f(t, routed) })
}

// flowsOf are the node's flows of a kind.
func (n *node) flowsOf(kind string) (list []api.Flow) {
	n.t.Helper()
	flows, err := n.dp.Services().Flows(ctx(n.t))
	must(n.t, err)
	for _, f := range flows {
		if f.Kind == kind {
			list = append(list, f)
		}
	}
	return list
}

func TestMasquerade(t *testing.T) {
	inMasqueradeModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 2, mode)
		n := l.nodes[0]
		a := n.addPod("a")
		serve(l.outside.NS)
		asks{a.NS, l.outside.Addr, n.Host.Addr}.check(t)
		must(t, second(a.Ping(l.outside.Addr, netnstest.PingOptions{Size: 1500})))
		seen := map[string]bool{}
		for _, f := range n.flowsOf("masquerade") {
			seen[f.Protocol] = true
			if f.Src.Addr() != a.Addr || f.NewSrc.Addr() != n.Host.Addr || f.NewSrc.Port() < natFirst || f.Dst != f.NewDst {
				t.Errorf("flow %+v", f)
			}
		}
		if !seen["tcp"] || !seen["udp"] || !seen["icmp"] {
			t.Errorf("flows of %v are known", seen)
		}
		if saved := n.Run("iptables-save"); strings.Contains(saved, "MASQUERADE") {
			t.Errorf("iptables have\n%s", saved)
		}
		// Nothing of it is left when it is over.
		n.dp.ExpireFlows(t)
		must(t, second(n.dp.Services().Collect(ctx(t))))
		if left := n.flowsOf("masquerade"); len(left) != 0 {
			t.Errorf("left are %+v", left)
		}
	})
}

// Whom a pod asked outside, when it was a Service that it asked, it knows by the Service's address.
func TestMasqueradeToABackendOutside(t *testing.T) {
	inMasqueradeModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 2, mode)
		n := l.nodes[0]
		a := n.addPod("a")
		serve(l.outside.NS)
		l.balance(both(demo(lb.Backend{Addr: netip.AddrPortFrom(l.outside.Addr, port), Ready: true}))...)
		asks{a.NS, clusterIP, n.Host.Addr}.check(t)
		asks{a.NS, l.outside.Addr, n.Host.Addr}.check(t)
		// From one port, both at a time.
		for _, network := range []string{"tcp4", "udp4"} {
			for _, to := range []netip.Addr{clusterIP, l.outside.Addr, clusterIP} {
				seen, err := a.AskFrom(40000, network, netip.AddrPortFrom(to, port), []byte("x"))
				if err != nil || seen != n.Host.Addr {
					t.Errorf("%s to %s: seen is %s, %v", network, to, seen, err)
				}
			}
		}
		if got := n.flowsOf("masquerade"); len(got) == 0 {
			t.Error("no masqueraded flow is known")
		}
	})
}

// Two pods that ask one server from one port are told apart, and what the node's own processes send is
// theirs, also when they have a port of the range.
func TestMasqueradeKeepsFlowsApart(t *testing.T) {
	inMasqueradeModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 1, mode)
		n := l.nodes[0]
		a, b := n.addPod("a"), n.addPod("b")
		server := netip.AddrPortFrom(l.outside.Addr, port)
		serve(l.outside.NS)
		conns := map[string]net.Conn{}
		for _, network := range []string{"tcp4", "udp4"} {
			for name, ns := range map[string]*netnstest.NS{"a": a.NS, "b": b.NS, "node": n.NS} {
				conns[network+" "+name] = dialFrom(t, ns, network, 50000, server)
			}
		}
		used := map[string]bool{}
		for name, c := range conns {
			said := seenAs(t, c)
			if used[name[:4]+said] {
				t.Errorf("%s is seen as %s, and so is another", name, said)
			}
			used[name[:4]+said] = true
			if own := said == netip.AddrPortFrom(n.Host.Addr, 50000).String(); own != strings.HasSuffix(name, "node") {
				t.Errorf("%s is seen as %s", name, said)
			}
		}
		for _, f := range n.flowsOf("masquerade") {
			if f.Src.Addr() == n.Host.Addr {
				t.Errorf("the node's own flow is known: %+v", f)
			}
		}
	})
}

// dialFrom connects from a port, and stays connected until the test ends.
func dialFrom(t *testing.T, ns *netnstest.NS, network string, from int, to netip.AddrPort) net.Conn {
	t.Helper()
	return dialWith(t, net.Dialer{}, ns, network, from, to)
}

// dialShared is dialFrom from a port that others may have too.
func dialShared(t *testing.T, ns *netnstest.NS, network string, from int, to netip.AddrPort) net.Conn {
	t.Helper()
	return dialWith(t, net.Dialer{Timeout: netnstest.ProbeTimeout, Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }), err)
	}}, ns, network, from, to)
}

func dialWith(t *testing.T, d net.Dialer, ns *netnstest.NS, network string, from int, to netip.AddrPort) net.Conn {
	t.Helper()
	d.LocalAddr = &net.TCPAddr{Port: from}
	if network == "udp4" {
		d.LocalAddr = &net.UDPAddr{Port: from}
	}
	var c net.Conn
	ns.Do(func() {
		var err error
		c, err = d.DialContext(ctx(t), network, to.String())
		must(t, err)
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// seenAs is whom the server says it sees.
func seenAs(t *testing.T, c net.Conn) string {
	t.Helper()
	said, err := who(c)
	must(t, err)
	name, _, _ := strings.Cut(said, "\n")
	return name
}

// Ports that sockets of the node listen on are nobody else's, even of the range.
func TestMasqueradeTakesNoSocketsPort(t *testing.T) {
	inMasqueradeModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 1, mode)
		n := l.nodes[0]
		a := n.addPod("a")
		server := netip.AddrPortFrom(l.outside.Addr, port)
		serve(l.outside.NS)
		// The port that a flow gets follows from its tuple: what it got once, it gets again, unless it is taken.
		for _, network := range []string{"tcp4", "udp4"} {
			first := seenAs(t, dialFrom(t, a.NS, network, 40001, server))
			n.dp.EvictFlows(t, true, true)
			taken := netip.MustParseAddrPort(first)
			n.listen(network, netip.AddrPortFrom(netip.IPv4Unspecified(), taken.Port()))
			again := seenAs(t, dialFrom(t, n.addPod("b").NS, network, 40002, server)) // shows that there are others
			if again == first {
				t.Errorf("%s: %s is a socket's", network, first)
			}
			seen, err := a.AskFrom(40001+1, network, server, []byte("x"))
			if err != nil || seen != n.Host.Addr {
				t.Errorf("%s: seen is %s, %v", network, seen, err)
			}
			for _, f := range n.flowsOf("masquerade") {
				if f.Protocol+"4" == network && f.NewSrc.Port() == taken.Port() {
					t.Errorf("a flow has a socket's port: %+v", f)
				}
			}
		}
	})
}

func (n *node) listen(network string, on netip.AddrPort) {
	n.t.Helper()
	n.Do(func() {
		if network == "tcp4" {
			l, err := net.Listen(network, on.String())
			must(n.t, err)
			n.t.Cleanup(func() { l.Close() })
			return
		}
		c, err := net.ListenPacket(network, on.String())
		must(n.t, err)
		n.t.Cleanup(func() { c.Close() })
	})
}

// A flow whose entries were lost goes on with the port that it had.
func TestMasqueradeOutlivesEviction(t *testing.T) {
	inMasqueradeModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 1, mode)
		n := l.nodes[0]
		a := n.addPod("a")
		sign(t, l.outside.NS)
		for _, network := range []string{"tcp4", "udp4"} {
			c := dialFrom(t, a.NS, network, 40001, netip.AddrPortFrom(l.outside.Addr, port))
			for _, evict := range [][2]bool{{false, false}, {true, false}, {false, true}, {true, true}} {
				n.dp.EvictFlows(t, evict[0], evict[1])
				n.dp.AgeFlows(t) // entries that are in use are not evicted
				if name, err := who(c); err != nil || name != l.outside.Name {
					t.Fatalf("%s, evicted %v: %q, %v", network, evict, name, err)
				}
			}
		}
	})
}

// Errors about masqueraded packets find the pod, and speak of the addresses that it knows.
func TestErrorsFindTheMasqueradedPod(t *testing.T) {
	inMasqueradeModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 1, mode)
		n := l.nodes[0]
		a := n.addPod("a")
		// Nobody listens.
		c, err := a.Dial("udp4", netip.AddrPortFrom(l.outside.Addr, 9))
		must(t, err)
		defer c.Close()
		netnstest.ExpectRefused(t, c)
		// Routers on the way, about each kind of packet.
		behind := netip.MustParseAddr("198.51.100.9")
		l.outside.Sysctl("net/ipv4/ip_forward", "1")
		l.outside.Sysctl("net/ipv4/icmp_ratelimit", "0")
		netnstest.Connect(l.outside.NS, "far", netnstest.New(t, "behind"), "near")
		l.outside.Run("ip", "link", "set", "far", "mtu", "1400")
		l.outside.Run("ip", "route", "add", behind.String(), "dev", "far")
		echo, err := a.Ping(behind, netnstest.PingOptions{TTL: 2})
		if err != nil || echo.Type != ipv4.ICMPTypeTimeExceeded || echo.From != l.outside.Addr {
			t.Errorf("an echo request's time: %+v, %v", echo, err)
		}
		eth := a.Capture("eth0")
		echo, err = a.Ping(behind, netnstest.PingOptions{Size: 1500})
		if err != nil || echo.Type != ipv4.ICMPTypeDestinationUnreachable {
			t.Errorf("a large echo request: %+v, %v", echo, err)
		}
		checkErrors(t, eth.Frames(), a.Addr, behind)
		u := dialFrom(t, a.NS, "udp4", 40003, netip.AddrPortFrom(behind, 9))
		setDontFragment(t, u)
		must(t, second(u.Write(make([]byte, 1472))))
		awaitFrame(t, eth, "an error about the large datagram", func(f netnstest.Frame) bool {
			return isErrorAbout(f, netip.AddrPortFrom(a.Addr, 40003), netip.AddrPortFrom(behind, 9))
		})
	})
}

// checkErrors expects one error at least about an echo request from src to dst, with all checksums right.
func checkErrors(t *testing.T, frames []netnstest.Frame, src, dst netip.Addr) {
	t.Helper()
	found := false
	for _, f := range frames {
		icmp, ok := f.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		if !ok || f.Outgoing || icmp.TypeCode.Type() != layers.ICMPv4TypeDestinationUnreachable {
			continue
		}
		found = true
		quoted := gopacket.NewPacket(icmp.Payload, layers.LayerTypeIPv4, gopacket.NoCopy).Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		if sum(icmp.Contents, icmp.Payload) != 0xffff || sum(quoted.Contents) != 0xffff {
			t.Error("the error's checksums are wrong")
		}
		if !quoted.SrcIP.Equal(src.AsSlice()) || !quoted.DstIP.Equal(dst.AsSlice()) {
			t.Errorf("the error is about %s to %s", quoted.SrcIP, quoted.DstIP)
		}
		if id := binary.BigEndian.Uint16(quoted.Payload[4:]); id != 0x1ab {
			t.Errorf("the error is about an echo with id %#x", id)
		}
		if sent := echoSum(frames); sent != 0 && binary.BigEndian.Uint16(quoted.Payload[2:]) != sent {
			t.Errorf("the quoted checksum is %#x, was %#x", binary.BigEndian.Uint16(quoted.Payload[2:]), sent)
		}
	}
	if !found {
		t.Error("there is no error")
	}
}

// echoSum is the checksum of the echo request among the frames.
func echoSum(frames []netnstest.Frame) uint16 {
	for _, f := range frames {
		if icmp, ok := f.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok && f.Outgoing && icmp.TypeCode.Type() == layers.ICMPv4TypeEchoRequest {
			return icmp.Checksum
		}
	}
	return 0
}

func setDontFragment(t *testing.T, c net.Conn) {
	t.Helper()
	raw, err := c.(*net.UDPConn).SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		must(t, unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE))
	}))
}

// What cannot be masqueraded does not leave with the pod's address.
func TestMasqueradeOrDrop(t *testing.T) {
	inMasqueradeModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 1, mode)
		n := l.nodes[0]
		a := n.addPod("a")
		must(t, second(a.Ping(l.outside.Addr, netnstest.PingOptions{}))) // the neighbour is known
		for name, test := range map[string]struct {
			change func(*layers.IPv4)
			reason string
		}{
			"SCTP":       {func(ip *layers.IPv4) { ip.Protocol = layers.IPProtocolSCTP }, "not-masqueradable"},
			"IP options": {func(ip *layers.IPv4) { ip.Options = []layers.IPv4Option{{OptionType: 1, OptionLength: 1}} }, "not-masqueradable"},
			"a fragment": {func(ip *layers.IPv4) { ip.FragOffset = 3; ip.Id = 7 }, "no-first-fragment"},
		} {
			t.Run(name, func(t *testing.T) {
				if name == "a fragment" && n.dp.Config().Mode() != settings.ModeEBPF {
					t.Log("the stack keeps it until it has the others")
					return
				}
				before := n.packets(test.reason, datapath.ToNetwork)
				out := l.outside.Capture(netnstest.NIC)
				a.Capture("eth0").Inject(frameTo(t, a, l.outside.Addr, test.change))
				eventually(t, func() bool { return n.packets(test.reason, datapath.ToNetwork) == before+1 }, "it is counted as "+test.reason)
				if slices.ContainsFunc(out.Frames(), func(f netnstest.Frame) bool {
					ip, ok := f.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
					return ok && ip.SrcIP.Equal(a.Addr.AsSlice())
				}) {
					t.Error("it left with the pod's address")
				}
			})
		}
	})
}

// Whom somebody outside asks by his own address answers with it. What nobody has asked for does not leave so.
func TestAnswersToTheOutside(t *testing.T) {
	inMasqueradeModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 1, mode)
		n := l.nodes[0]
		a := n.addPod("a")
		serve(a.NS)
		l.outside.AddRoute(n.cfg.PodCIDR, n.Host.Addr)
		asks{l.outside.NS, a.Addr, l.outside.Addr}.check(t)
		for range 3 {
			reply, err := l.outside.Ping(a.Addr, netnstest.PingOptions{})
			if err != nil || reply.From != a.Addr || reply.Type != ipv4.ICMPTypeEchoReply {
				t.Errorf("a ping of the pod: %+v, %v", reply, err)
			}
		}
		tcp := func(flags uint8) []byte {
			header := make([]byte, 20)
			binary.BigEndian.PutUint16(header, port)
			binary.BigEndian.PutUint16(header[2:], 999)
			header[12], header[13] = 5<<4, flags
			return header
		}
		for name, test := range map[string]struct {
			proto   layers.IPProtocol
			payload []byte
		}{
			"an echo reply": {layers.IPProtocolICMPv4, []byte{0, 0, 0xf0, 0xf0, 0x0f, 0x0e, 0, 1}},
			"a SYN-ACK":     {layers.IPProtocolTCP, tcp(0x12)},
		} {
			t.Run(name, func(t *testing.T) {
				before := n.packets("not-masqueradable", datapath.ToNetwork)
				out := l.outside.Capture(netnstest.NIC)
				a.Capture("eth0").Inject(frame(t, &layers.Ethernet{SrcMAC: a.PodMAC[:], DstMAC: a.HostMAC[:], EthernetType: layers.EthernetTypeIPv4},
					&layers.IPv4{Version: 4, TTL: 64, Protocol: test.proto, SrcIP: a.Addr.AsSlice(), DstIP: l.outside.Addr.AsSlice()}, gopacket.Payload(test.payload)))
				eventually(t, func() bool { return n.packets("not-masqueradable", datapath.ToNetwork) == before+1 }, "it is dropped")
				if slices.ContainsFunc(out.Frames(), func(f netnstest.Frame) bool {
					ip, ok := f.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
					return ok && ip.SrcIP.Equal(a.Addr.AsSlice())
				}) {
					t.Error("it left with the pod's address")
				}
			})
		}
	})
}

// Where iptables masquerades, no pod gets a port that is a frontend's, nor one of those that BPF gives.
func TestMasqueradedPortsAreNoFrontends(t *testing.T) {
	for name, first := range map[string]uint16{"usual NodePorts": 30000, "NodePorts above": 40000} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 1, replacement)
			n := l.nodes[0]
			a, b := n.addPod("a"), n.addPod("b")
			serve(l.outside.NS)
			sign(t, b.NS)
			s := demo(ready(b, n))
			s.Frontends = nil
			for p := range uint16(2000) {
				s.Frontends = append(s.Frontends, lb.Frontend{Kind: lb.NodePort, Port: first + p})
			}
			n.balance(lb.State{Services: both(s), HostPorts: []lb.HostPort{{Proto: "tcp", Port: 35000, Backend: b.at(port)}}})
			l.reconcile()
			server, used := netip.AddrPortFrom(l.outside.Addr, port), map[uint16]bool{}
			for _, network := range []string{"tcp4", "udp4"} {
				for range 400 {
					c, err := a.Dial(network, server)
					must(t, err)
					said, err := who(c)
					c.Close()
					if err != nil {
						t.Fatalf("%s from %s: %v", network, c.LocalAddr(), err)
					}
					line, _, _ := strings.Cut(said, "\n")
					seen := netip.MustParseAddrPort(line)
					used[seen.Port()] = true
					if p := seen.Port(); seen.Addr() != n.Host.Addr || p >= first && p < first+2000 || p == 35000 || p >= natFirst || p < 1024 {
						t.Fatalf("%s: it is seen as %s", network, seen)
					}
				}
			}
			if len(used) < 200 {
				t.Errorf("only %d ports were used", len(used))
			}
			if got, err := whoAt(t, l.outside.NS, "tcp4", netip.AddrPortFrom(n.Host.Addr, first)); err != nil || got != b.NS.Name {
				t.Errorf("a frontend is answered by %q, %v", got, err)
			}
		})
	}
}

// Status names the NICs whose programs masquerade, and claims nothing else.
func TestMasqueradeStatus(t *testing.T) {
	inMasqueradeModes(t, func(t *testing.T, mode setup) {
		n := newLab(t, 1, mode).nodes[0]
		status := func() (m api.Masquerading) {
			n.Do(func() {
				s, err := n.dp.Status(ctx(t))
				must(t, err)
				m = s.Masquerading
			})
			return m
		}
		if m := status(); !m.Enabled || m.Kind != "BPF" || !slices.Equal(m.Devices, []string{netnstest.NIC}) || m.NativeCIDR != native {
			t.Errorf("masquerading is %+v", m)
		}
		must(t, os.Remove(filepath.Join(n.BPFFS, "wirelab/links", netnstest.NIC+"_out")))
		if m := status(); m.Enabled || len(m.Devices) != 0 {
			t.Errorf("without a program at the NIC, masquerading is %+v", m)
		}
	})
}

// From iptables to BPF and back, with one masquerading at a time.
func TestMasqueradingChangesHands(t *testing.T) {
	l := newLab(t, 1, replacement)
	n := l.nodes[0]
	a := n.addPod("a")
	serve(l.outside.NS)
	for _, mode := range []setup{routed, replacement, masqueraded, kubeProxy, routed} {
		n.close()
		n.cfg.BPF.Masquerade, n.cfg.BPF.HostLegacyRouting = false, false
		mode(&n.cfg)
		n.open()
		n.Do(func() { must(t, n.dp.Masquerade().Apply(ctx(t), l.desired())) })
		asks{a.NS, l.outside.Addr, n.Host.Addr}.check(t)
		if got := strings.Contains(n.Run("iptables-save"), "LAB-MASQUERADE"); got == n.cfg.BPF.Masquerade {
			t.Errorf("%+v: iptables masquerade is %v", n.cfg, got)
		}
	}
}

// The kernel asks the rules about a flow's first packet only. One that began while they were not there is masqueraded once
// they are, though it does not pause; flows that are masqueraded go on.
func TestMasqueradeOfWhatBeganBefore(t *testing.T) {
	l := newLab(t, 1, replacement)
	n := l.nodes[0]
	a := n.addPod("a")
	serve(l.outside.NS)
	at := netip.AddrPortFrom(l.outside.Addr, port)
	const before, other = 40001, 40002
	ask := func(from int) (netip.Addr, error) { return a.AskFrom(from, "udp4", at, []byte("hello")) }
	masqueradeNow := func() {
		t.Helper()
		n.Do(func() { must(t, n.dp.Masquerade().Apply(ctx(t), l.desired())) })
	}
	// As others on a node do, this has the kernel track flows, also while there is no rule to masquerade them.
	n.Run("iptables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "INVALID", "-j", "ACCEPT")
	if seen, err := ask(other); err != nil || seen != n.Host.Addr {
		t.Fatalf("a flow that finds the rules: seen from %s, %v", seen, err)
	}
	outer := n.natted(other)
	n.Run("iptables", "-t", "nat", "-F", "LAB-MASQUERADE")
	if seen, err := ask(before); err == nil {
		t.Fatalf("without the rules the outside sees %s: this test needs it not to answer", seen)
	}
	if left := n.natted(before); left != before {
		t.Fatalf("connection tracking has the flow leave by port %d, want %d as it was sent", left, before)
	}
	masqueradeNow()
	if seen, err := ask(before); err != nil || seen != n.Host.Addr {
		t.Errorf("a flow from before the rules: seen from %s, %v; want the node's %s", seen, err, n.Host.Addr)
	}
	if now := n.natted(other); now == 0 || now != outer {
		t.Errorf("a flow that was masqueraded left by port %d, and now by %d", outer, now)
	}
}

// natted is the port that connection tracking gives to a UDP flow from the port; 0 when it knows none.
func (n *node) natted(port uint16) (outer uint16) {
	n.t.Helper()
	n.Do(func() {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		must(n.t, err)
		for _, f := range flows {
			if f.Forward.Protocol == unix.IPPROTO_UDP && f.Forward.SrcPort == port {
				outer = f.Reverse.DstPort
			}
		}
	})
	return outer
}
