package datapath_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/netnstest"
)

// clusterIP stands for a Service's address: nobody has it.
var clusterIP = netip.MustParseAddr("10.96.0.10")

// serviceRules are what kube-proxy makes of a Service with one endpoint, as far as packets go: translate,
// masquerade what comes from the endpoint itself, and drop what connection tracking cannot place.
func serviceRules(n *node, backend netip.Addr) {
	n.t.Helper()
	for _, rule := range []string{
		"-t nat -A PREROUTING -d 10.96.0.10/32 -j DNAT --to-destination " + backend.String(),
		"-t nat -A OUTPUT -d 10.96.0.10/32 -j DNAT --to-destination " + backend.String(),
		"-t nat -A POSTROUTING -s " + backend.String() + " -d " + backend.String() + " -j MASQUERADE",
		"-A FORWARD -m conntrack --ctstate INVALID -j DROP",
	} {
		n.Run(append([]string{"iptables"}, strings.Fields(rule)...)...)
	}
}

func TestServiceWithALocalBackend(t *testing.T) { service(t) }

func service(t *testing.T, with ...func(*datapath.Config)) {
	testServiceRules(t, newLab(t, 2, with...))
}

func testServiceRules(t *testing.T, l *lab) {
	n := l.nodes[0]
	a, b, c := n.addPod("a"), n.addPod("b"), l.nodes[1].addPod("c")
	serviceRules(n, b.Addr)
	serviceRules(l.nodes[1], b.Addr)
	serve(a.NS, b.NS)
	for name, conversation := range map[string]asks{
		"from a pod on the backend's node": {a.NS, clusterIP, a.Addr},
		"from another node":                {c.NS, clusterIP, c.Addr},
		"from the node":                    {n.NS, clusterIP, n.Host.Addr},
		"from the backend itself":          {b.NS, clusterIP, n.cfg.Router()},
		"around the Service":               {a.NS, b.Addr, a.Addr},
		"and the other way":                {b.NS, a.Addr, b.Addr},
	} {
		t.Run(name, conversation.check)
	}
}

// What goes to a local pod is not masqueraded, wherever the native-routing CIDR is.
func TestServiceSeesLocalClientsOutsideTheNativeCIDR(t *testing.T) {
	n := newLab(t, 1, func(c *datapath.Config) { c.IPv4NativeRoutingCIDR = netip.MustParsePrefix("172.16.0.0/12") }).nodes[0]
	a, b := n.addPod("a"), n.addPod("b")
	serviceRules(n, b.Addr)
	serve(b.NS)
	asks{a.NS, clusterIP, a.Addr}.check(t)
}

// The tracked flow a:p -> Service -> b has the same addresses and ports behind the translation as a
// direct flow a:p -> b. The answers to the second must not be translated as the first's.
func TestServiceAndDirectFlowFromOnePort(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	a, b := n.addPod("a"), n.addPod("b")
	serviceRules(n, b.Addr)
	serve(b.NS)
	const clientPort = 33333
	for _, to := range []netip.Addr{clusterIP, b.Addr, clusterIP} {
		if _, err := a.AskFrom(clientPort, "udp4", netip.AddrPortFrom(to, port), []byte("hello")); err != nil {
			t.Errorf("from port %d to %s: %v", clientPort, to, err)
		}
	}
}

// An error about a translated flow goes back through the translation, one about a direct flow directly:
// connection tracking has never seen that one and would take the error for a forgery.
func TestICMPErrors(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	a, b := n.addPod("a"), n.addPod("b")
	serviceRules(n, b.Addr)
	for name, to := range map[string]netip.Addr{"direct": b.Addr, "through a Service": clusterIP} {
		t.Run(name, func(t *testing.T) {
			c, err := a.Dial("udp4", netip.AddrPortFrom(to, 9))
			must(t, err)
			defer c.Close()
			netnstest.ExpectRefused(t, c)
		})
	}
}

func TestLargeDatagramsThroughAService(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	a, b := n.addPod("a"), n.addPod("b")
	serviceRules(n, b.Addr)
	serve(b.NS)
	// The first packet of the flow is a fragment, so is the first answer.
	seen, err := a.Ask("udp4", netip.AddrPortFrom(clusterIP, port), make([]byte, 30000))
	must(t, err)
	if seen != a.Addr {
		t.Errorf("the server saw %s, want %s", seen, a.Addr)
	}
}

func TestHostPorts(t *testing.T) {
	l := newLab(t, 2)
	n := l.nodes[0]
	a, b, c := n.addPod("a"), n.addPod("b"), l.nodes[1].addPod("c")
	serve(b.NS)
	ports := []lb.HostPort{
		{Proto: "tcp", Port: port, Backend: b.at(port)},
		{Proto: "udp", Port: port, Backend: b.at(port)},
	}
	n.Do(func() { must(t, n.dp.HostPorts().Apply(context.Background(), ports)) })
	for name, conversation := range map[string]asks{
		"from the outside":      {l.outside.NS, n.Host.Addr, l.outside.Addr},
		"from another pod":      {a.NS, n.Host.Addr, a.Addr},
		"from the pod itself":   {b.NS, n.Host.Addr, n.cfg.Router()},
		"from another node":     {l.nodes[1].NS, n.Host.Addr, l.nodes[1].Host.Addr},
		"from a pod over there": {c.NS, n.Host.Addr, c.Addr},
		"from the node itself":  {n.NS, n.Host.Addr, n.Host.Addr},
	} {
		t.Run(name, conversation.check)
	}
}

// A client that keeps one UDP socket finds the new pod when its host port moves.
func TestHostPortMovesUDPClients(t *testing.T) {
	l := newLab(t, 1)
	n := l.nodes[0]
	a, b := n.addPod("a"), n.addPod("b")
	b.ServeUDP(anyPort)
	move := func(to *pod) {
		n.Do(func() {
			must(t, n.dp.HostPorts().Apply(context.Background(), []lb.HostPort{{Proto: "udp", Port: 53, Backend: to.at(port)}}))
		})
	}
	move(a)
	ask := func() error {
		_, err := l.outside.AskFrom(44444, "udp4", netip.AddrPortFrom(n.Host.Addr, 53), []byte("hello"))
		return err
	}
	if ask() == nil {
		t.Fatal("a pod that does not listen answered")
	}
	move(b)
	must(t, ask())
}

func TestHostPortOnOneAddress(t *testing.T) {
	l := newLab(t, 1)
	n := l.nodes[0]
	other := netip.MustParseAddr("192.0.2.200")
	n.AddAddr(netnstest.NIC, netip.PrefixFrom(other, 32))
	a, b := n.addPod("a"), n.addPod("b")
	for _, p := range []*pod{a, b} {
		p.ServeTCP(anyPort)
	}
	n.Do(func() {
		must(t, n.dp.HostPorts().Apply(context.Background(), []lb.HostPort{
			{Proto: "tcp", Port: 80, Backend: a.at(port)},
			{Proto: "tcp", Port: 80, HostIP: other, Backend: b.at(port)},
		}))
	})
	for addr, want := range map[netip.Addr]*pod{n.Host.Addr: a, other: b} {
		before := want.Capture("eth0")
		_, err := l.outside.Ask("tcp4", netip.AddrPortFrom(addr, 80), []byte("hello"))
		must(t, err)
		if len(before.Frames()) == 0 {
			t.Errorf("port 80 of %s did not lead to %s", addr, want.Addr)
		}
	}
}

func TestHostPortsAreChecked(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	a := n.addPod("a")
	sign(t, a.NS)
	backend, good := netip.MustParseAddrPort("10.244.0.9:80"), lb.HostPort{Proto: "tcp", Port: 9000, Backend: a.at(port)}
	for name, bad := range map[string]lb.HostPort{
		"protocol": {Proto: "icmp", Port: 80, Backend: backend},
		"port":     {Proto: "tcp", Backend: backend},
		"backend":  {Proto: "tcp", Port: 80, Backend: netip.MustParseAddrPort("[fd00::1]:80")},
		"host IP":  {Proto: "tcp", Port: 80, HostIP: netip.MustParseAddr("fd00::1"), Backend: backend},
		"twice":    {Proto: "tcp", Port: 9000, Backend: netip.AddrPortFrom(backend.Addr().Next(), 80)},
	} {
		t.Run(name, func(t *testing.T) {
			if skipped := n.setHostPorts([]lb.HostPort{bad, good}); len(skipped) != 1 || skipped[0].Message == "" {
				t.Errorf("left out: %v", skipped)
			}
			if got, err := whoAt(t, a.NS, "tcp4", netip.AddrPortFrom(n.Host.Addr, 9000)); err != nil || got != a.NS.Name {
				t.Errorf("the good one beside it: %q, %v", got, err)
			}
		})
	}
}
