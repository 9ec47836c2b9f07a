package datapath_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/api"
)

// established opens a connection and makes sure that it is answered.
func established(t *testing.T, from *pod, network string, to netip.AddrPort) (c net.Conn, answer string) {
	t.Helper()
	c, err := from.Dial(network, to)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	answer, err = who(c)
	must(t, err)
	return c, answer
}

// A restart, a changed list of backends and the end of the Service itself: what is connected goes on.
func TestConnectionsOutliveChanges(t *testing.T) { inServiceModes(t, testConnectionsOutliveChanges) }

func testConnectionsOutliveChanges(t *testing.T, mode setup) {
	l := newLab(t, 2, mode)
	n, m := l.nodes[0], l.nodes[1]
	a, b, c := n.addPod("a"), n.addPod("b"), m.addPod("c")
	sign(t, b.NS, c.NS)
	serviceAt := netip.AddrPortFrom(clusterIP, port)
	for name, backend := range map[string]lb.Backend{"beside": ready(b, n), "on another node": ready(c, m)} {
		t.Run(name, func(t *testing.T) {
			l.balance(both(demo(backend))...)
			conn, first := established(t, a, "tcp4", serviceAt)
			still := func(after string) {
				t.Helper()
				if got, err := who(conn); err != nil || got != first {
					t.Errorf("after %s: got %q, %v; want %q", after, got, err, first)
				}
			}
			for _, node := range l.nodes {
				node.close()
				node.open()
			}
			still("a restart")
			l.balance(both(demo(backend))...)
			still("the restart's first reconciliation")
			l.balance(both(demo())...)
			still("the backend's removal")
			if _, err := whoAt(t, a.NS, "tcp4", serviceAt); err == nil {
				t.Error("a new connection went to the removed backend")
			}
			l.balance()
			still("the Service's removal")
		})
	}
}

func TestListIsReadBack(t *testing.T) { inServiceModes(t, testListIsReadBack) }

func testListIsReadBack(t *testing.T, mode setup) {
	l := newLab(t, 1, mode)
	n := l.nodes[0]
	b := n.addPod("b")
	s := demo(ready(b, n))
	s.Proto = "tcp"
	n.balance(lb.State{Services: []lb.Service{s}})
	list := func() []api.Frontend {
		t.Helper()
		list, err := n.dp.Services().List(ctx(t))
		must(t, err)
		return list
	}
	before := list()
	if len(before) != 1 || before[0].Service != "default/demo" || before[0].Protocol != "tcp" || before[0].Addr.String() != "10.96.0.10:8080" ||
		before[0].Type != string(lb.ClusterIP) || before[0].From != "inside" || len(before[0].Backends) != 1 ||
		before[0].Backends[0].Addr != b.at(port) || !before[0].Backends[0].OnNode {
		t.Fatalf("got %+v", before)
	}
	n.close()
	n.open()
	after := list()
	if len(after) != 1 || after[0].Service != "" {
		t.Errorf("before anybody named it, the service is %+v", after)
	}
	n.balance(lb.State{Services: []lb.Service{s}})
	if after = list(); len(after) != 1 || after[0].Backends[0] != before[0].Backends[0] || after[0].Service != before[0].Service {
		t.Errorf("after a restart the service is %+v, was %+v", after, before)
	}
	n.balance(lb.State{})
	if left := list(); len(left) != 0 {
		t.Errorf("without Services there is %+v", left)
	}
}

// The socket of a UDP client outlives its backend: its next packet goes to another.
func TestUDPClientsMoveOn(t *testing.T) { inServiceModes(t, testUDPClientsMoveOn) }

func testUDPClientsMoveOn(t *testing.T, mode setup) {
	l := newLab(t, 2, mode)
	n, m := l.nodes[0], l.nodes[1]
	a, b, c := n.addPod("a"), n.addPod("b"), m.addPod("c")
	sign(t, b.NS, c.NS)
	l.balance(both(demo(ready(b, n)))...)
	conn, answer := established(t, a, "udp4", netip.AddrPortFrom(clusterIP, port))
	if answer != b.NS.Name {
		t.Fatalf("got an answer of %s", answer)
	}
	l.balance(both(demo(ready(c, m)))...)
	if answer, err := who(conn); err != nil || answer != c.NS.Name {
		t.Errorf("got %q, %v; want an answer of %s", answer, err, c.NS.Name)
	}
}

// A backend that finishes: no new connections while another is ready, but some when none is.
func TestTerminatingBackends(t *testing.T) { inServiceModes(t, testTerminatingBackends) }

func testTerminatingBackends(t *testing.T, mode setup) {
	l := newLab(t, 1, mode)
	n := l.nodes[0]
	a, b, c := n.addPod("a"), n.addPod("b"), n.addPod("c")
	sign(t, b.NS, c.NS)
	serviceAt := netip.AddrPortFrom(clusterIP, port)
	l.balance(both(demo(ready(b, n)))...)
	conn, _ := established(t, a, "tcp4", serviceAt)
	ending := ready(b, n)
	ending.Ready, ending.Terminating = false, true
	l.balance(both(demo(ending, ready(c, n)))...)
	if got, err := who(conn); err != nil || got != b.NS.Name {
		t.Errorf("the connection to the backend that finishes: got %q, %v", got, err)
	}
	if found := census(t, a.NS, "tcp4", serviceAt, 20); found[c.NS.Name] != 20 {
		t.Errorf("new connections went to %v", found)
	}
	l.balance(both(demo(ending))...)
	if found := census(t, a.NS, "tcp4", serviceAt, 5); found[b.NS.Name] != 5 {
		t.Errorf("with no other backend, new connections went to %v", found)
	}
}

func TestFlowsAreListedAndCollected(t *testing.T) { inServiceModes(t, testFlowsAreListedAndCollected) }

func testFlowsAreListedAndCollected(t *testing.T, mode setup) {
	l := newLab(t, 1, mode)
	n := l.nodes[0]
	a, b := n.addPod("a"), n.addPod("b")
	sign(t, b.NS)
	l.balance(both(demo(ready(b, n)))...)
	conn, _ := established(t, a, "udp4", netip.AddrPortFrom(clusterIP, port))
	client := netip.MustParseAddrPort(conn.LocalAddr().String())
	flows, err := n.dp.Services().Flows(ctx(t))
	must(t, err)
	i := slices.IndexFunc(flows, func(f api.Flow) bool { return f.Src == client })
	if i < 0 {
		t.Fatalf("the flow of %s is not among %+v", client, flows)
	}
	f := flows[i]
	if f.Dst.Addr() != clusterIP || f.NewSrc != client || f.NewDst != b.at(port) || f.State != "answered" || f.Service != "default/demo" || f.Protocol != "udp" ||
		f.Expires.Seconds() < 118 || f.Expires.Seconds() > 120 {
		t.Errorf("the flow is %+v", f)
	}
	back, err := n.dp.Services().Translations(ctx(t))
	must(t, err)
	if !slices.ContainsFunc(back, func(f api.Flow) bool {
		return f.Src == b.at(port) && f.NewDst == client && f.NewSrc.Addr() == clusterIP
	}) {
		t.Errorf("the flow's answers are not among %+v", back)
	}
	got, err := n.dp.Services().Collect(ctx(t))
	must(t, err)
	if got.Expired != 0 || got.Flows != len(flows) || got.Translations != len(back) {
		t.Errorf("collected %+v of %d and %d entries that live", got, len(flows), len(back))
	}
	n.dp.ExpireFlows(t)
	got, err = n.dp.Services().Collect(ctx(t))
	must(t, err)
	if got.Expired != len(flows)+len(back) || got.Flows != 0 || got.Translations != 0 {
		t.Errorf("collected %+v of %d and %d entries that are over", got, len(flows), len(back))
	}
}

// Either entry of a flow may be evicted: the connection goes on, by the other or by the choice that
// follows from the addresses.
func TestConnectionsOutliveEviction(t *testing.T) { inServiceModes(t, testConnectionsOutliveEviction) }

func testConnectionsOutliveEviction(t *testing.T, mode setup) {
	l := newLab(t, 2, mode)
	n, m := l.nodes[0], l.nodes[1]
	a := n.addPod("a")
	var list []lb.Backend
	for i := range 4 {
		p := l.nodes[i%2].addPod("b")
		list = append(list, ready(p, l.nodes[i%2]))
		sign(t, p.NS)
	}
	l.balance(both(withNodePort(demo(list...)))...)
	outsideConn, outsideFirst := func() (net.Conn, string) {
		c, err := l.outside.Dial("tcp4", netip.AddrPortFrom(m.Host.Addr, nodePort))
		must(t, err)
		t.Cleanup(func() { c.Close() })
		name, err := who(c)
		must(t, err)
		return c, name
	}()
	podConn, podFirst := established(t, a, "tcp4", netip.AddrPortFrom(clusterIP, port))
	for name, evict := range map[string]func(*node){
		"the opener's":  func(n *node) { n.dp.EvictFlows(t, true, false) },
		"both":          func(n *node) { n.dp.EvictFlows(t, true, true); n.dp.AgeFlows(t) }, // none that was used just now is evicted
		"the answers'":  func(n *node) { n.dp.EvictFlows(t, false, true); n.dp.AgeFlows(t) },
		"the opener's ": func(n *node) { n.dp.EvictFlows(t, true, false); n.dp.AgeFlows(t) },
	} {
		for _, n := range l.nodes {
			evict(n)
		}
		if got, err := who(podConn); err != nil || got != podFirst {
			t.Errorf("%s entry gone: a pod got %q, %v; want %q", name, got, err, podFirst)
		}
		if got, err := who(outsideConn); err != nil || got != outsideFirst {
			t.Errorf("%s entry gone: the outside got %q, %v; want %q", name, got, err, outsideFirst)
		}
	}
}

func TestHostPortsWithServices(t *testing.T) { inServiceModes(t, testHostPortsWithServices) }

func testHostPortsWithServices(t *testing.T, mode setup) {
	l := newLab(t, 2, mode)
	n := l.nodes[0]
	a, b, c := n.addPod("a"), n.addPod("b"), l.nodes[1].addPod("c")
	serve(b.NS)
	n.balance(lb.State{HostPorts: []lb.HostPort{
		{Proto: "tcp", Port: nodePort, Backend: b.at(port)},
		{Proto: "udp", Port: nodePort, Backend: b.at(port)},
	}})
	for name, conversation := range map[string]asks{
		"from the outside":      {l.outside.NS, n.Host.Addr, l.outside.Addr},
		"from another pod":      {a.NS, n.Host.Addr, a.Addr},
		"from the pod itself":   {b.NS, n.Host.Addr, hairpin},
		"from another node":     {l.nodes[1].NS, n.Host.Addr, l.nodes[1].Host.Addr},
		"from a pod over there": {c.NS, n.Host.Addr, c.Addr},
	} {
		t.Run(name, func(t *testing.T) { conversation.checkAt(t, nodePort) })
	}
	n.Do(func() {
		if err := n.dp.HostPorts().Apply(ctx(t), nil); err == nil {
			t.Error("host ports were taken by the way of another mode")
		}
	})
	if left := n.Run("iptables-save"); strings.Contains(left, "HOSTPORT") {
		t.Errorf("iptables have host ports:\n%s", left)
	}
}

// A node goes from mode to mode: nothing of the one before stays.
func TestModesFollowOneAnother(t *testing.T) {
	l := newLab(t, 1)
	n := l.nodes[0]
	a, b := n.addPod("a"), n.addPod("b")
	sign(t, b.NS)
	n.Do(func() {
		must(t, n.dp.HostPorts().Apply(ctx(t), []lb.HostPort{{Proto: "tcp", Port: 80, Backend: b.at(port)}}))
		if err := n.dp.Services().Apply(ctx(t), lb.State{}); !errors.Is(err, datapath.ErrNoServices) {
			t.Errorf("got %v, want ErrNoServices", err)
		}
	})
	inFirst := pinned(n.BPFFS)
	for range 2 {
		n.close()
		replacement(&n.cfg)
		n.open()
		l.balance(both(demo(ready(b, n)))...)
		if answer, err := whoAt(t, a.NS, "tcp4", netip.AddrPortFrom(clusterIP, port)); err != nil || answer != b.NS.Name {
			t.Fatalf("in mode %s: got %q, %v", n.cfg.Mode(), answer, err)
		}
		if left := n.Run("iptables-save"); strings.Contains(left, "HOSTPORT") {
			t.Errorf("iptables still have host ports:\n%s", left)
		}
		n.close()
		n.cfg.KubeProxyReplacement = false
		n.open()
		if answer, err := whoAt(t, a.NS, "tcp4", netip.AddrPortFrom(clusterIP, port)); err == nil {
			t.Errorf("in mode %s a Service was answered by %q", n.cfg.Mode(), answer)
		}
		if now := pinned(n.BPFFS); !slices.Equal(now, inFirst) {
			t.Errorf("pins are\n%v\nwere\n%v", now, inFirst)
		}
	}
}

func TestServicesInTheStatus(t *testing.T) { inServiceModes(t, testServicesInTheStatus) }

func testServicesInTheStatus(t *testing.T, mode setup) {
	l := newLab(t, 1, mode)
	n := l.nodes[0]
	b := n.addPod("b")
	l.balance(both(withNodePort(demo(ready(b, n))))...)
	n.Do(func() {
		s, err := n.dp.Status(ctx(t))
		must(t, err)
		got := s.Services
		if got == nil || !slices.Equal(got.Devices, []string{"eth0"}) || got.Backends != 2 || got.NATPorts != "49152-65535" ||
			got.Frontends[string(lb.ClusterIP)] != 2 || got.Frontends[string(lb.NodePort)] != 4 ||
			!slices.Equal(got.Sockets, []string{"connect4", "connect6", "peername4", "peername6", "recvmsg4", "recvmsg6", "sendmsg4"}) {
			t.Errorf("got %+v", got)
		}
	})
}
