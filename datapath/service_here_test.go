package datapath_test

import (
	"net/netip"
	"testing"

	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/netnstest"
)

// TestEndpointsByAddress has endpoints of which only the address is known, as in EndpointSlices made by hand, and
// some whose node's name says otherwise: at addresses of a node, at pods'. They are reached by every entry, and from
// outside with the client's own address where the endpoint is on the very node.
func TestEndpointsByAddress(t *testing.T) { inServiceModes(t, testEndpointsByAddress) }

func testEndpointsByAddress(t *testing.T, mode setup) {
	l := newLab(t, 2, mode)
	n, m := l.nodes[0], l.nodes[1]
	a, b, c := n.addPod("a"), n.addPod("b"), m.addPod("c")
	second, onLoopback := netip.MustParseAddr("192.0.2.200"), netip.MustParseAddr("172.31.77.1")
	n.AddAddr(netnstest.NIC, netip.PrefixFrom(second, 32))
	n.AddAddr("lo", netip.PrefixFrom(onLoopback, 32))
	m.AddRoute(netip.PrefixFrom(onLoopback, 32), n.Host.Addr)
	l.reconcileDevices()
	external := netip.MustParseAddr("192.0.2.210")
	for _, at := range []netip.Addr{n.Host.Addr, second, onLoopback, n.cfg.Router()} {
		n.ServeTCP(netip.AddrPortFrom(at, port))
		n.ServeUDP(netip.AddrPortFrom(at, port))
	}
	serve(b.NS, m.NS, l.outside.NS)
	for name, backend := range map[string]lb.Backend{
		"the node's":                              {Addr: netip.AddrPortFrom(n.Host.Addr, port)},
		"the node's, of no node by name":          {Addr: netip.AddrPortFrom(n.Host.Addr, port), Node: "nobody"},
		"the node's, of another by name":          {Addr: netip.AddrPortFrom(n.Host.Addr, port), Node: m.cfg.NodeName},
		"the node's second":                       {Addr: netip.AddrPortFrom(second, port)},
		"one on lo":                               {Addr: netip.AddrPortFrom(onLoopback, port)},
		"one on lo, with the node's name":         {Addr: netip.AddrPortFrom(onLoopback, port), Node: n.cfg.NodeName},
		"the router's":                            {Addr: netip.AddrPortFrom(n.cfg.Router(), port)},
		"a pod's":                                 {Addr: b.at(port)},
		"a pod's, on another node by name":        {Addr: b.at(port), Node: m.cfg.NodeName},
		"a host's outside, on this node by name":  {Addr: netip.AddrPortFrom(l.outside.Addr, port), Node: n.cfg.NodeName},
		"another node's, on this node by name":    {Addr: netip.AddrPortFrom(m.Host.Addr, port), Node: n.cfg.NodeName},
		"another node's, which nobody knows name": {Addr: netip.AddrPortFrom(m.Host.Addr, port)},
	} {
		t.Run(name, func(t *testing.T) {
			backend.Ready = true
			s := withNodePort(demo(backend))
			s.Frontends = append(s.Frontends, lb.Frontend{Kind: lb.ExternalIP, Addr: external, Port: port})
			l.balance(both(s)...)
			client := l.net.AddHost("client")
			seenBy := func(here *node) netip.Addr { // through here's NodePort, from outside
				at := backend.Addr.Addr()
				if here == n && (at == n.Host.Addr || at == second || at == onLoopback || n.cfg.PodCIDR.Contains(at)) || here == m && at == m.Host.Addr {
					return client.Addr
				}
				return here.Host.Addr
			}
			asks{client.NS, n.Host.Addr, seenBy(n)}.checkAt(t, nodePort)
			asks{client.NS, m.Host.Addr, seenBy(m)}.checkAt(t, nodePort)
			asks{client.NS, second, seenBy(n)}.checkAt(t, nodePort)
			for _, via := range l.nodes {
				client.Run("ip", "route", "replace", external.String(), "via", via.Host.Addr.String())
				asks{client.NS, external, seenBy(via)}.check(t)
			}
			for _, network := range []string{"tcp4", "udp4"} {
				for _, from := range []*netnstest.NS{a.NS, c.NS} {
					for _, to := range []netip.AddrPort{netip.AddrPortFrom(clusterIP, port), netip.AddrPortFrom(external, port), netip.AddrPortFrom(n.Host.Addr, nodePort), netip.AddrPortFrom(m.Host.Addr, nodePort)} {
						if _, err := from.Ask(network, to, []byte("x")); err != nil {
							t.Errorf("%s from %s to %s: %v", network, from.Name, to, err)
						}
					}
				}
				for _, on := range l.nodes { // their own processes
					to := []netip.AddrPort{netip.AddrPortFrom(clusterIP, port), netip.AddrPortFrom(on.Host.Addr, nodePort), netip.AddrPortFrom(external, port)}
					for i, got := range on.inCgroup(on.NS, conversation{Network: network, To: to}) {
						if got.Err != "" {
							t.Errorf("%s from %s itself to %s: %s", network, on.cfg.NodeName, to[i], got.Err)
						}
					}
				}
			}
		})
	}
}

// reconcileDevices tells the nodes of what has changed about their addresses.
func (l *lab) reconcileDevices() {
	l.t.Helper()
	for _, n := range l.nodes {
		n.Do(func() { must(l.t, n.dp.Devices().Apply(ctx(l.t))) })
	}
}
