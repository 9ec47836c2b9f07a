package datapath_test

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/netnstest"
)

// An agent that finds maps and programs of an older layout loses no connection: to pods, to Services of pods here and
// elsewhere, to the outside, and from there.
func TestUpgradeLosesNoConnection(t *testing.T) { inModes(t, testUpgrade) }

func testUpgrade(t *testing.T, mode setup) {
	l := newLab(t, 2, mode)
	n := l.nodes[0]
	a, b, c := n.addPod("a"), n.addPod("b"), l.nodes[1].addPod("c")
	serve(b.NS, c.NS, l.outside.NS)
	service := netip.AddrPortFrom(clusterIP, port)
	targets := map[netip.AddrPort]*netnstest.NS{b.at(port): a.NS, c.at(port): a.NS, netip.AddrPortFrom(l.outside.Addr, port): a.NS, service: a.NS}
	if !n.cfg.KubeProxyReplacement {
		serviceRules(n, b.Addr)
	} else {
		l.balance(both(withNodePort(demo(ready(b, n), ready(c, l.nodes[1]))))...)
		targets[netip.AddrPortFrom(n.Host.Addr, nodePort)] = l.outside.NS
	}
	n.Do(func() { n.dp.BecomeLast(t) })
	n.close()
	if pins := pinned(n.BPFFS); !hasPins(pins, datapath.LastLayout) || hasPins(pins, datapath.Layout) {
		t.Fatalf("the node does not look like one of layout %s: %v", datapath.LastLayout, pins)
	}

	var conns []net.Conn
	for to, from := range targets {
		for _, network := range []string{"tcp4", "tcp4", "tcp4", "udp4", "udp4", "udp4"} {
			conns = append(conns, dialFrom(t, from, network, 0, to))
		}
	}
	seen, end := pingPong(t, conns)
	seen(1000)
	n.open()
	seen(1000)
	if pins := pinned(n.BPFFS); hasPins(pins, datapath.LastLayout) || !hasPins(pins, datapath.Layout) {
		t.Errorf("the pins are %v", pins)
	}
	n.expectEntries(2)
	if n.cfg.KubeProxyReplacement { // who connects now finds the Services of before
		must(t, second(whoAt(t, a.NS, "tcp4", service)))
	}
	end()
}

func hasPins(pins []string, layout string) bool {
	return slices.ContainsFunc(pins, func(pin string) bool { return strings.HasPrefix(pin, "wirelab/maps/"+layout) })
}
