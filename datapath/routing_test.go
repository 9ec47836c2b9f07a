package datapath_test

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/ipv4"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/internal/settings"
)

// What pods send each other across nodes does not meet the nodes' tables in mode ebpf, nor their
// connection tracking; in the others it does, which shows that these rules would hurt.
func TestHostTablesAreBypassed(t *testing.T) {
	inModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 2, mode)
		n, m := l.nodes[0], l.nodes[1]
		a, c := n.addPod("a"), m.addPod("c")
		bypasses := n.dp.Config().Mode() == settings.ModeEBPF
		serve(c.NS)
		asks{a.NS, c.Addr, a.Addr}.check(t)
		for _, node := range l.nodes {
			if got := node.tracked(c.Addr); got == bypasses && node.conntracks() {
				t.Errorf("%s: tracked is %v", node.cfg.NodeName, got)
			}
		}
		for _, rule := range [][]string{
			{"-t", "filter", "-I", "FORWARD", "-j", "DROP"},
			{"-t", "raw", "-I", "PREROUTING", "-d", c.Addr.String(), "-j", "DROP"},
			{"-t", "mangle", "-I", "POSTROUTING", "-d", c.Addr.String(), "-j", "DROP"},
		} {
			for _, node := range l.nodes {
				node.Run(append([]string{"iptables"}, rule...)...)
				_, err := a.Ping(c.Addr, netnstest.PingOptions{Timeout: netnstest.NoAnswer})
				if passes := err == nil; passes != bypasses {
					t.Errorf("%v on %s: it passes is %v", rule, node.cfg.NodeName, passes)
				}
				if bypasses {
					asks{a.NS, c.Addr, a.Addr}.check(t)
				}
				undo := slices.Clone(rule)
				undo[2] = "-D"
				node.Run(append([]string{"iptables"}, undo...)...)
			}
		}
		must(t, second(a.Ping(c.Addr, netnstest.PingOptions{})))
	})
}

// conntracks says whether the node's stack tracks connections, which it does only when rules ask for it.
func (n *node) conntracks() bool {
	n.t.Helper()
	_, err := n.Ping(n.Host.Addr, netnstest.PingOptions{})
	must(n.t, err)
	return n.tracked(n.Host.Addr)
}

// The kernel's routes are the authority, from the next packet on.
func TestRoutesDecide(t *testing.T) {
	inModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 2, mode)
		n := l.nodes[0]
		a := n.addPod("a")
		far := netip.MustParseAddr("198.51.100.1")
		for _, h := range []*netnstest.NS{l.outside.NS, l.nodes[1].NS} {
			h.AddAddr("lo", netip.PrefixFrom(far, 32))
		}
		serve(l.outside.NS)
		l.nodes[1].ServeTCP(netip.AddrPortFrom(far, port+1))
		ask := func(port uint16) error {
			_, err := a.Ask("tcp4", netip.AddrPortFrom(far, port), []byte("x"))
			return err
		}
		must(t, ask(port)) // by the default route
		n.Run("ip", "route", "add", far.String(), "via", l.nodes[1].Host.Addr.String())
		must(t, ask(port+1))
		n.Run("ip", "route", "replace", far.String(), "via", l.outside.Addr.String())
		must(t, ask(port))
		// By rule, too: there are tables besides main.
		n.Run("ip", "route", "add", far.String(), "via", l.nodes[1].Host.Addr.String(), "table", "77")
		n.Run("ip", "rule", "add", "from", a.Addr.String(), "lookup", "77")
		must(t, ask(port+1))
	})
}

// Rules that choose a table by a packet's protocol, ports and DSCP hold for pods' packets.
func TestRulesDecide(t *testing.T) {
	inModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 2, mode)
		n := l.nodes[0]
		a := n.addPod("a")
		far := netip.MustParseAddr("198.51.100.1")
		for _, h := range []*netnstest.NS{l.outside.NS, l.nodes[1].NS} { // by the default route, and by table 77
			h.AddAddr("lo", netip.PrefixFrom(far, 32))
		}
		for _, port := range []uint16{53, 54} {
			signAt(t, netip.AddrPortFrom(far, port), l.outside.NS, l.nodes[1].NS)
		}
		n.Run("ip", "route", "add", far.String(), "via", l.nodes[1].Host.Addr.String(), "table", "77")
		ask := func(network string, port uint16, tos int) string {
			t.Helper()
			c, err := a.Dial(network, netip.AddrPortFrom(far, port))
			must(t, err)
			defer c.Close()
			must(t, ipv4.NewConn(c).SetTOS(tos))
			name, err := who(c)
			must(t, err)
			return name
		}
		for _, rule := range [][]string{{"ipproto", "udp"}, {"ipproto", "udp", "dport", "53"}, {"tos", "0x10"}} {
			add := append([]string{"ip", "rule", "add"}, append(rule, "lookup", "77")...)
			n.Run(add...)
			byTOS, byPort := rule[0] == "tos", len(rule) == 4
			for range 2 {
				for _, test := range []struct {
					network string
					port    uint16
					tos     int
					matches bool
				}{
					{"udp4", 53, 0, !byTOS}, {"udp4", 54, 0, !byTOS && !byPort}, {"tcp4", 53, 0, false}, {"udp4", 54, 0x10, byTOS || !byPort},
				} {
					want := l.outside.Name
					if test.matches {
						want = l.nodes[1].Name
					}
					if got := ask(test.network, test.port, test.tos); got != want {
						t.Errorf("%v: %+v was answered by %s", rule, test, got)
					}
				}
			}
			add[2] = "del"
			n.Run(add...)
		}
	})
}

// A next hop that the packets of one flow go to is asked for its MAC again when that is old.
func TestNeighboursInUseStayFresh(t *testing.T) {
	inModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 2, mode)
		n, next := l.nodes[0], l.nodes[1].Host.Addr.String()
		a, c := n.addPod("a"), l.nodes[1].addPod("c")
		serve(c.NS)
		n.Sysctl("net/ipv4/neigh/"+netnstest.NIC+"/delay_first_probe_time", "1")
		must(t, second(n.Ping(l.nodes[1].Host.Addr, netnstest.PingOptions{}))) // its MAC is known before the flow's first packet
		conn, err := a.Dial("udp4", netip.AddrPortFrom(c.Addr, port))
		must(t, err)
		defer conn.Close()
		must(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
		ask := func() {
			must(t, second(conn.Write([]byte("x"))))
			must(t, second(conn.Read(make([]byte, 64))))
		}
		is := func(state string) bool {
			return strings.Contains(n.Run("ip", "neigh", "show", next, "dev", netnstest.NIC), state)
		}
		ask()
		n.Run("ip", "neigh", "change", next, "dev", netnstest.NIC, "nud", "stale")
		if !is("STALE") {
			t.Fatal("the neighbour does not become stale")
		}
		for !is("REACHABLE") {
			ask()
		}
	})
}

// What cannot be routed is dropped, counted where BPF routes, and answered as a host answers.
func TestDeadEnds(t *testing.T) {
	inModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 1, mode)
		n := l.nodes[0]
		a := n.addPod("a")
		n.Run("ip", "route", "del", "default")
		n.Sysctl("net/ipv4/icmp_ratelimit", "0")
		for i, kind := range []string{"", "unreachable", "prohibit", "blackhole"} {
			dst := netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})
			reason := map[string]string{"": "no-route", "prohibit": "prohibited"}[kind]
			if reason == "" {
				reason = kind
			}
			if kind != "" {
				n.Run("ip", "route", "add", kind, dst.String())
			}
			before := n.packets(reason, datapath.FromPod)
			eth := a.Capture("eth0")
			_, err := a.Ping(dst, netnstest.PingOptions{Timeout: netnstest.NoAnswer})
			if answered := err == nil; answered == (kind == "blackhole") {
				t.Errorf("%q: answered is %v (%v)", kind, answered, err)
			}
			code := map[string]uint8{"": layers.ICMPv4CodeNet, "unreachable": layers.ICMPv4CodeHost, "prohibit": layers.ICMPv4CodeCommAdminProhibited}[kind]
			if kind != "blackhole" && !slices.ContainsFunc(eth.Frames(), func(f netnstest.Frame) bool {
				icmp, ok := f.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
				return ok && icmp.TypeCode == layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, code)
			}) {
				t.Errorf("%q: no answer has code %d", kind, code)
			}
			if n.dp.Config().Mode() != settings.ModeEBPF {
				continue
			}
			if got := n.packets(reason, datapath.FromPod) - before; got != 1 {
				t.Errorf("%d packets are counted as %s, want 1", got, reason)
			}
		}
	})
}

// The address of the node, and others that it has by now, are no dead end.
func TestTheNodesOwnAddresses(t *testing.T) {
	inServiceModes(t, func(t *testing.T, mode setup) {
		n := newLab(t, 1, mode).nodes[0]
		a := n.addPod("a")
		late := netip.MustParseAddr("203.0.113.77")
		n.AddAddr(netnstest.NIC, netip.PrefixFrom(late, 32))
		for _, addr := range []netip.Addr{n.Host.Addr, n.cfg.Router(), late} {
			echo, err := a.Ping(addr, netnstest.PingOptions{TTL: 1})
			if err != nil || echo.Type != ipv4.ICMPTypeEchoReply || echo.TTL != 64 {
				t.Errorf("%s: %+v, %v", addr, echo, err)
			}
		}
		n.Do(func() { must(t, n.dp.Devices().Apply(ctx(t))) })
		must(t, second(a.Ping(late, netnstest.PingOptions{})))
		if got := n.packets("no-route", datapath.FromPod); got > 1 { // the one that came before Apply
			t.Errorf("%d packets are counted as without a route", got)
		}
	})
}

// A packet that is too large for the way is answered with what would not be, in every mode; one that may
// be cut into fragments is.
func TestPathMTU(t *testing.T) {
	inModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 2, mode)
		n, m := l.nodes[0], l.nodes[1]
		a, c := n.addPod("a"), m.addPod("c")
		n.Run("ip", "route", "replace", m.cfg.PodCIDR.String(), "via", m.Host.Addr.String(), "mtu", "lock", "1300")
		echo, err := a.Ping(c.Addr, netnstest.PingOptions{Size: 1400})
		if err != nil || echo.Type != ipv4.ICMPTypeDestinationUnreachable {
			t.Errorf("a packet of 1400 bytes with DF: %+v, %v", echo, err)
		}
		if got := n.packets("too-big", datapath.FromPod); n.dp.Config().Mode() == settings.ModeEBPF && got == 0 {
			t.Error("it is not counted")
		}
		must(t, second(a.Ping(c.Addr, netnstest.PingOptions{Size: 1300})))
		serve(c.NS)
		eth := m.Capture(netnstest.NIC)
		asks{a.NS, c.Addr, a.Addr}.check(t) // TCP learns it, UDP is cut
		for _, f := range eth.Frames() {
			ip, ok := f.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
			if ok && !f.Outgoing && ip.Protocol == layers.IPProtocolUDP && int(ip.Length) > 1300 {
				t.Errorf("a datagram of %d bytes came through", ip.Length)
			}
		}
		a.Run("ip", "route", "flush", "cache")
		n.Run("ip", "route", "replace", m.cfg.PodCIDR.String(), "via", m.Host.Addr.String())
		must(t, second(a.Ping(c.Addr, netnstest.PingOptions{Size: 1500})))
	})
}

// A pod with a smaller MTU than the NIC's: what does not fit is answered at the last hop.
func TestSmallMTUOfPods(t *testing.T) {
	inModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 2, mode)
		small := l.nodes[1]
		small.close()
		small.cfg.MTU = 1400
		small.open()
		a, c := l.nodes[0].addPod("a"), small.addPod("c")
		must(t, second(a.Ping(c.Addr, netnstest.PingOptions{Size: 1400})))
		echo, err := a.Ping(c.Addr, netnstest.PingOptions{Size: 1401})
		if err != nil || echo.Type != ipv4.ICMPTypeDestinationUnreachable || echo.From != small.Host.Addr {
			t.Errorf("a packet of 1401 bytes: %+v, %v", echo, err)
		}
	})
}

// Nobody has asked for the next hop's MAC yet: the first packet arrives all the same.
func TestFirstPacketWaitsForTheNeighbour(t *testing.T) {
	inModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 2, mode)
		a, c := l.nodes[0].addPod("a"), l.nodes[1].addPod("c")
		for range 3 {
			for _, n := range l.nodes {
				n.Run("ip", "neigh", "flush", "dev", netnstest.NIC)
			}
			must(t, second(a.Ping(c.Addr, netnstest.PingOptions{})))
		}
	})
}

// Fragments are routed as they are, and options are the stack's.
func TestFragmentsAndOptions(t *testing.T) {
	inModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 2, mode)
		a, b, c := l.nodes[0].addPod("a"), l.nodes[0].addPod("b"), l.nodes[1].addPod("c")
		for _, to := range []*pod{b, c} {
			eth := to.Capture("eth0")
			packet := frameTo(t, a, to.Addr, func(ip *layers.IPv4) {
				ip.Options = []layers.IPv4Option{{OptionType: 1, OptionLength: 1}} // no operation
			})
			a.Capture("eth0").Inject(packet)
			awaitFrame(t, eth, "the packet with options arrives", func(f netnstest.Frame) bool {
				ip, ok := f.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
				return ok && len(ip.Options) > 0
			})
			packet = frameTo(t, a, to.Addr, func(ip *layers.IPv4) { ip.FragOffset = 100 })
			a.Capture("eth0").Inject(packet)
			if l.nodes[0].dp.Config().Mode() != settings.ModeEBPF {
				continue // the stack may wait for the others
			}
			awaitFrame(t, eth, "the fragment arrives", func(f netnstest.Frame) bool {
				ip, ok := f.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
				return ok && ip.FragOffset == 100
			})
		}
	})
}

// frameTo is a UDP datagram of the pod's with its IPv4 header changed.
func frameTo(t *testing.T, from *pod, to netip.Addr, change func(*layers.IPv4)) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: from.Addr.AsSlice(), DstIP: to.AsSlice()}
	change(ip)
	udp := &layers.UDP{SrcPort: 1000, DstPort: 1001}
	must(t, udp.SetNetworkLayerForChecksum(ip))
	return frame(t, &layers.Ethernet{SrcMAC: from.PodMAC[:], DstMAC: from.HostMAC[:], EthernetType: layers.EthernetTypeIPv4}, ip, udp,
		gopacket.Payload(bytes.Repeat([]byte("x"), 64)))
}
