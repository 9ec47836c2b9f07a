package datapath_test

import (
	"net/netip"
	"testing"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
)

func TestClusterIP(t *testing.T) { inServiceLabs(t, 2, testClusterIP) }

func testClusterIP(t *testing.T, l *lab) {
	n, m := l.nodes[0], l.nodes[1]
	a, b, c := n.addPod("a"), n.addPod("b"), m.addPod("c")
	l.balance(both(demo(ready(b, n)))...)
	serve(a.NS, b.NS)
	for name, conversation := range map[string]asks{
		"from a pod on the backend's node": {a.NS, clusterIP, a.Addr},
		"from another node":                {c.NS, clusterIP, c.Addr},
		"from the backend itself":          {b.NS, clusterIP, hairpin},
		"around the Service":               {a.NS, b.Addr, a.Addr},
		"and the other way":                {b.NS, a.Addr, b.Addr},
	} {
		t.Run(name, conversation.check)
	}
}

// The node's own network is not only for pods: the API server is a backend on a node's address.
func TestBackendInTheNodesNetwork(t *testing.T) { inServiceLabs(t, 2, testBackendInTheNodesNetwork) }

func testBackendInTheNodesNetwork(t *testing.T, l *lab) {
	n, m := l.nodes[0], l.nodes[1]
	a, c := n.addPod("a"), m.addPod("c")
	s := demo(lb.Backend{Addr: netip.AddrPortFrom(n.Host.Addr, port), Node: n.cfg.NodeName, Ready: true})
	s.Frontends = append(s.Frontends, lb.Frontend{Kind: lb.NodePort, Port: nodePort})
	l.balance(both(s)...)
	serve(n.NS)
	asks{a.NS, clusterIP, a.Addr}.check(t)
	asks{c.NS, clusterIP, c.Addr}.check(t)
	asks{l.outside.NS, n.Host.Addr, l.outside.Addr}.checkAt(t, nodePort)
	asks{l.outside.NS, m.Host.Addr, m.Host.Addr}.checkAt(t, nodePort)
}

func TestNodePort(t *testing.T) { inServiceLabs(t, 3, testNodePort) }

func testNodePort(t *testing.T, l *lab) {
	n, m := l.nodes[0], l.nodes[1]
	a, b, c := n.addPod("a"), n.addPod("b"), m.addPod("c")
	s := demo(ready(b, n))
	s.Frontends = append(s.Frontends, lb.Frontend{Kind: lb.NodePort, Port: nodePort})
	l.balance(both(s)...)
	serve(b.NS)
	for name, conversation := range map[string]asks{
		"outside, through the backend's node":      {l.outside.NS, n.Host.Addr, l.outside.Addr},
		"outside, through another node":            {l.outside.NS, m.Host.Addr, m.Host.Addr},
		"a pod beside the backend":                 {a.NS, n.Host.Addr, a.Addr},
		"a pod elsewhere, through its own node":    {c.NS, m.Host.Addr, c.Addr},
		"a pod elsewhere, through the other":       {c.NS, n.Host.Addr, c.Addr},
		"a pod elsewhere, through the third":       {c.NS, l.nodes[2].Host.Addr, l.nodes[2].Host.Addr},
		"a pod beside the backend, through others": {a.NS, m.Host.Addr, m.Host.Addr},
		"the backend, through its own node":        {b.NS, n.Host.Addr, hairpin},
		"the backend, through another node":        {b.NS, m.Host.Addr, m.Host.Addr},
		"another node's process":                   {m.NS, n.Host.Addr, m.Host.Addr},
	} {
		t.Run(name, func(t *testing.T) { conversation.checkAt(t, nodePort) })
	}
}

func TestOuterAddresses(t *testing.T) { inServiceModes(t, testOuterAddresses) }

func testOuterAddresses(t *testing.T, mode setup) {
	external, ingress := netip.MustParseAddr("192.0.2.210"), netip.MustParseAddr("192.0.2.220")
	l := newLab(t, 2, mode)
	n, m := l.nodes[0], l.nodes[1]
	a, b := n.addPod("a"), n.addPod("b")
	s := demo(ready(b, n))
	s.Frontends = append(s.Frontends,
		lb.Frontend{Kind: lb.ExternalIP, Addr: external, Port: port},
		lb.Frontend{Kind: lb.LoadBalancer, Addr: ingress, Port: port})
	s.SourceRanges = []netip.Prefix{netip.PrefixFrom(l.outside.Addr, 32), netip.PrefixFrom(a.Addr, 32)}
	l.balance(both(s)...)
	serve(b.NS)
	for via, seen := range map[*node]netip.Addr{n: l.outside.Addr, m: m.Host.Addr} {
		for _, addr := range []netip.Addr{external, ingress} {
			l.outside.Run("ip", "route", "replace", addr.String(), "via", via.Host.Addr.String())
			asks{l.outside.NS, addr, seen}.check(t)
		}
	}
	asks{a.NS, external, a.Addr}.check(t)
	asks{a.NS, ingress, a.Addr}.check(t)

	// The other node is an outside to this one too, and not in the range.
	m.balance(lb.State{})
	for _, addr := range []netip.Addr{external, ingress} {
		m.Run("ip", "route", "replace", addr.String(), "via", n.Host.Addr.String())
	}
	asks{m.NS, external, m.Host.Addr}.check(t)
	if _, err := m.Ask("tcp4", netip.AddrPortFrom(ingress, port), []byte("x")); err == nil {
		t.Error("a load balancer's address took a client that is not in its source ranges")
	}
	if got := n.packets("source-range", datapath.FromNetwork); got == 0 {
		t.Error("the refused client was not counted")
	}
}

// A client's port that came through a Service, and then comes to the same backend by its own address: the
// answers are those to the second connection.
func TestPortIsUsedAgain(t *testing.T) { inServiceLabs(t, 2, testPortIsUsedAgain) }

func testPortIsUsedAgain(t *testing.T, l *lab) {
	n, m := l.nodes[0], l.nodes[1]
	b, c := n.addPod("b"), m.addPod("c")
	l.balance(both(withNodePort(demo(ready(b, n))))...)
	serve(b.NS)
	for _, to := range []netip.AddrPort{
		netip.AddrPortFrom(n.Host.Addr, nodePort), // translated where the backend is
		netip.AddrPortFrom(m.Host.Addr, nodePort), // translated where the client is
		b.at(port),
	} {
		seen, err := c.AskFrom(40000, "tcp4", to, []byte("x"))
		if err != nil || seen != c.Addr {
			t.Errorf("%s: seen is %s, %v", to, seen, err)
		}
	}
}
