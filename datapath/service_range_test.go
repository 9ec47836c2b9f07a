package datapath_test

import (
	"net/netip"
	"strings"
	"testing"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/netnstest"
)

// A load balancer's source ranges hold for clients inside the cluster, too: pods by their own address, the node's
// processes by the one they send from.
func TestSourceRangesInside(t *testing.T) { inServiceModes(t, testSourceRangesInside) }

func testSourceRangesInside(t *testing.T, mode setup) {
	external, ingress := netip.MustParseAddr("192.0.2.210"), netip.MustParseAddr("192.0.2.220")
	l := newLab(t, 2, mode)
	n, m := l.nodes[0], l.nodes[1]
	a, b, x, y := n.addPod("a"), n.addPod("b"), n.addPod("x"), m.addPod("y")
	sign(t, b.NS)
	s := demo(ready(b, n))
	s.Frontends = append(s.Frontends,
		lb.Frontend{Kind: lb.ExternalIP, Addr: external, Port: port},
		lb.Frontend{Kind: lb.LoadBalancer, Addr: ingress, Port: port})
	s.SourceRanges = []netip.Prefix{netip.PrefixFrom(a.Addr, 32), netip.PrefixFrom(n.Host.Addr, 32)}
	l.balance(both(s)...)
	mapped := netip.AddrPortFrom(netip.AddrFrom16(ingress.As16()), port)
	balanced := netip.AddrPortFrom(ingress, port)
	for name, c := range map[string]struct {
		node     *node
		from     *netnstest.NS
		admitted bool
		refused  datapath.Direction // where it is counted
	}{
		"a pod in the ranges":       {n, a.NS, true, ""},
		"a pod out of them":         {n, x.NS, false, datapath.FromPod},
		"a pod of another node":     {m, y.NS, false, datapath.FromPod},
		"the node in the ranges":    {n, n.NS, true, ""},
		"another node, out of them": {m, m.NS, false, datapath.ToNetwork},
	} {
		for _, network := range []string{"tcp", "udp", "udp-unconnected", "raw-tcp6", "raw-udp6"} {
			if c.refused == datapath.FromPod && network != "tcp" && network != "udp-unconnected" {
				continue // all are packets, and those are waited for the shortest
			}
			to := balanced
			if strings.HasPrefix(network, "raw") {
				to = mapped
			}
			before := uint64(0)
			if !c.admitted {
				before = c.node.packets("source-range", c.refused)
			}
			got := c.node.inCgroup(c.from, conversation{Network: network, To: []netip.AddrPort{to}})[0]
			if c.admitted && (got.Answer != b.NS.Name || unmapped(got.Peer) != balanced.String()) {
				t.Errorf("%s, %s: got %+v, want an answer from %s", name, network, got, balanced)
			}
			if c.admitted {
				continue
			}
			if counted := c.node.packets("source-range", c.refused) - before; got.Err == "" || counted == 0 {
				t.Errorf("%s, %s: got %+v, and %d packets are counted", name, network, got, counted)
			}
			if c.from == c.node.NS && !strings.Contains(got.Err, "not permitted") {
				t.Errorf("%s, %s: got %+v, want to be told at once", name, network, got)
			}
		}
		for _, to := range []netip.AddrPort{netip.AddrPortFrom(clusterIP, port), netip.AddrPortFrom(external, port)} {
			if got := c.node.inCgroup(c.from, conversation{Network: "tcp", To: []netip.AddrPort{to}})[0]; got.Answer != b.NS.Name {
				t.Errorf("%s at %s, which has no ranges: got %+v", name, to, got)
			}
		}
	}
}

// A process of the node is known by the address that its socket is bound to. Bound to the load balancer's own
// address, which the node has then, it is as welcome as the node.
func TestSourceRangesByBoundAddress(t *testing.T) {
	l := newLab(t, 1, routed)
	n := l.nodes[0]
	b := n.addPod("b")
	sign(t, b.NS)
	ingress, other := netip.MustParseAddr("192.0.2.220"), netip.MustParseAddr("192.0.2.201")
	n.AddAddr(netnstest.NIC, netip.PrefixFrom(other, 32))
	n.AddAddr(netnstest.NIC, netip.PrefixFrom(ingress, 32))
	s := demo(ready(b, n))
	s.Frontends = append(s.Frontends, lb.Frontend{Kind: lb.LoadBalancer, Addr: ingress, Port: port})
	to := netip.AddrPortFrom(ingress, port)
	answered := func(from netip.Addr) bool {
		t.Helper()
		got := n.holds(n.NS, udpSocket{Bind: netip.AddrPortFrom(from, 0)}).say(talk{To: to, Count: 1})[0]
		return got.Answer == b.NS.Name
	}
	for in, want := range map[netip.Addr][3]bool{n.Host.Addr: {true, false, true}, other: {false, true, false}} {
		s.SourceRanges = []netip.Prefix{netip.PrefixFrom(in, 32)}
		l.balance(both(s)...)
		for i, from := range []netip.Addr{n.Host.Addr, other, ingress} {
			if got := answered(from); got != want[i] {
				t.Errorf("only %s is accepted: a socket bound to %s is answered: %v", in, from, got)
			}
		}
	}
}
