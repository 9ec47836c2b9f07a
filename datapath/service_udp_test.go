package datapath_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/netnstest"
)

// crowd are so many backends that one is found by chance again in less than one of a million tries.
func (n *node) crowd(size int) (pods []*pod, backends []lb.Backend) {
	n.t.Helper()
	for i := range size {
		p := n.addPod(fmt.Sprintf("b%d", i))
		sign(n.t, p.NS)
		pods, backends = append(pods, p), append(backends, ready(p, n))
	}
	return pods, backends
}

// another is a second Service with the same backends.
func another(backends ...lb.Backend) lb.Service {
	s := demo(backends...)
	s.Name = "another"
	s.Frontends = []lb.Frontend{{Kind: lb.ClusterIP, Addr: netip.MustParseAddr("10.96.0.12"), Port: port}}
	return s
}

// without are the backends but the one in the namespace of that name.
func without(name string, pods []*pod, backends []lb.Backend) (rest []lb.Backend) {
	for i, p := range pods {
		if p.NS.Name != name {
			rest = append(rest, backends[i])
		}
	}
	return rest
}

// One socket has one backend of a Service, whatever it sends between, as long as the backend is one: a flow is
// not torn apart.
func TestOneUDPSocketOneBackend(t *testing.T) { inServiceModes(t, testOneUDPSocketOneBackend) }

func testOneUDPSocketOneBackend(t *testing.T, mode setup) {
	l := newLab(t, 1, mode)
	n := l.nodes[0]
	a := n.addPod("a")
	pods, backends := n.crowd(6)
	clusterAt, nodeAt := netip.AddrPortFrom(clusterIP, port), netip.AddrPortFrom(n.Host.Addr, nodePort)
	otherAt := netip.MustParseAddrPort("10.96.0.12:8080")
	anywhere := netip.AddrPortFrom(netip.IPv4Unspecified(), 33333)
	for who, from := range map[string]*netnstest.NS{"a process of the node": n.NS, "a pod": a.NS} {
		for _, s := range []udpSocket{{}, {IPv6: true}, {Bind: anywhere}, {IPv6: true, Bind: anywhere}, {Connect: otherAt}, {Bind: anywhere, Connect: otherAt}} {
			t.Run(fmt.Sprintf("%s, %s", who, s), func(t *testing.T) {
				balance := func(of ...lb.Backend) { l.balance(both(withNodePort(demo(of...)), another(of...))...) }
				balance(backends[:4]...)
				k := n.holds(from, s)
				k.t = t
				defer k.close()
				to := []netip.AddrPort{clusterAt, nodeAt, otherAt}
				if s.Connect.IsValid() {
					to = to[2:] // nobody else is heard
				}
				first := map[netip.AddrPort]string{}
				for _, at := range to {
					first[at] = k.asks(talk{To: at, Count: 10})
				}
				same := func(when string, count int, batch bool) {
					t.Helper()
					for _, at := range to {
						if got := k.asks(talk{To: at, Count: count, Batch: batch}); got != first[at] {
							t.Errorf("%s: %s answers at %s, and %s before", when, got, at, first[at])
						}
					}
				}
				for range 3 {
					same("in turn", 1, false)
					same("by sendmmsg", 8, true)
				}
				balance(backends...)
				same("with more backends", 3, false)
				if s.Connect.IsValid() {
					return // what becomes of it then is another test's
				}
				balance(without(first[clusterAt], pods, backends)...)
				if next := k.asks(talk{To: clusterAt, Count: 5}); next == first[clusterAt] {
					t.Errorf("%s still answers, and is no backend any more", next)
				}
			})
		}
	}
}

// A socket that is opened with the port of one before goes on with its flow.
func TestUDPPortReuse(t *testing.T) { inServiceModes(t, testUDPPortReuse) }

func testUDPPortReuse(t *testing.T, mode setup) {
	l := newLab(t, 1, mode)
	n := l.nodes[0]
	a := n.addPod("a")
	_, backends := n.crowd(6)
	to := netip.AddrPortFrom(clusterIP, port)
	for who, from := range map[string]*netnstest.NS{"a process of the node": n.NS, "a pod": a.NS} {
		t.Run(who, func(t *testing.T) {
			s := udpSocket{Bind: netip.AddrPortFrom(netip.IPv4Unspecified(), 33333)}
			found := map[string]bool{}
			for i := range 8 {
				l.balance(both(demo(backends[i%3:]...))...)
				if i%3 > 0 {
					continue // a list of its own, in which the one before is not
				}
				k := n.holds(from, s)
				k.t = t
				found[k.asks(talk{To: to, Count: 2})] = true
				k.close()
			}
			if len(found) != 1 {
				t.Errorf("sockets with one port were answered by %v", found)
			}
		})
	}
}

// A socket that is connected through a Service, by a process that does not connect again, leaves a backend that
// is gone: a pod's goes on to another, the node's is told.
func TestConnectedUDPSocketsLeaveABackend(t *testing.T) {
	inServiceModes(t, testConnectedUDPSocketsLeaveABackend)
}

func testConnectedUDPSocketsLeaveABackend(t *testing.T, mode setup) {
	l := newLab(t, 2, mode)
	n, m := l.nodes[0], l.nodes[1]
	a, b, c := n.addPod("a"), n.addPod("b"), m.addPod("c")
	sign(t, b.NS, c.NS)
	to := netip.AddrPortFrom(clusterIP, port)
	for _, ipv6 := range []bool{false, true} {
		l.balance(both(demo(ready(b, n)))...)
		s := udpSocket{IPv6: ipv6, Connect: to}
		inPod, onNode := n.holds(a.NS, s), n.holds(n.NS, s)
		for _, k := range []*talker{inPod, onNode} {
			if got := k.asks(talk{Count: 3}); got != b.NS.Name {
				t.Fatalf("%s: %s answers", s, got)
			}
		}
		l.balance(both(demo(ready(c, m)))...)
		if got := inPod.asks(talk{Count: 3}); got != c.NS.Name {
			t.Errorf("%s: a pod's socket goes on to %q, want %s", s, got, c.NS.Name)
		}
		if got := onNode.say(talk{Count: 1})[0]; !strings.Contains(got.Err, "connection abort") && !strings.Contains(got.Err, "destination address required") {
			t.Errorf("%s: the node's socket got %+v, want to be told that it has lost its backend", s, got)
		}
		again := n.holds(n.NS, s)
		if got := again.asks(talk{Count: 3}); got != c.NS.Name {
			t.Errorf("%s: a new socket of the node's leads to %q", s, got)
		}
	}
}

// No socket is taken from its process for nothing: not one that may send to another backend by itself, nor one
// that speaks to a server for another reason than the Service.
func TestOtherUDPSocketsStay(t *testing.T) { inServiceModes(t, testOtherUDPSocketsStay) }

func testOtherUDPSocketsStay(t *testing.T, mode setup) {
	l := newLab(t, 1, mode)
	n := l.nodes[0]
	b, c := n.addPod("b"), n.addPod("c")
	sign(t, b.NS, c.NS)
	to, otherAt := netip.AddrPortFrom(clusterIP, port), netip.MustParseAddrPort("10.96.0.12:8080")
	l.balance(both(demo(ready(b, n)), another(ready(b, n)))...)
	connected, direct := n.holds(n.NS, udpSocket{Connect: to}), n.holds(n.NS, udpSocket{Connect: b.at(port)})
	other, unconnected := n.holds(n.NS, udpSocket{Connect: otherAt}), n.holds(n.NS, udpSocket{})
	for _, k := range []*talker{connected, direct, other} {
		k.asks(talk{Count: 1})
	}
	unconnected.asks(talk{To: to, Count: 1})
	l.balance(both(demo(ready(c, n)), another(ready(b, n)))...)
	if got := connected.say(talk{Count: 1})[0]; got.Err == "" {
		t.Errorf("the socket whose backend is gone got %+v", got)
	}
	for name, k := range map[string]*talker{"the backend's own address": direct, "another Service": other} {
		if got := k.asks(talk{Count: 2}); got != b.NS.Name {
			t.Errorf("the socket connected to %s has an answer of %q", name, got)
		}
	}
	if got := unconnected.asks(talk{To: to, Count: 2}); got != c.NS.Name {
		t.Errorf("the unconnected socket has an answer of %q, want %s", got, c.NS.Name)
	}
	l.balance(both(demo(ready(c, n)))...)
	if got := other.say(talk{Count: 1})[0]; got.Err == "" {
		t.Errorf("the socket whose Service is gone got %+v", got)
	}
}

// What changed while no agent ran is found when one is back.
func TestConnectedUDPSocketsAfterARestart(t *testing.T) {
	l := newLab(t, 1, routed)
	n := l.nodes[0]
	b, c := n.addPod("b"), n.addPod("c")
	sign(t, b.NS, c.NS)
	to := netip.AddrPortFrom(clusterIP, port)
	l.balance(both(demo(ready(b, n)))...)
	k := n.holds(n.NS, udpSocket{Connect: to})
	k.asks(talk{Count: 1})
	n.close()
	n.open()
	l.balance(both(demo(ready(b, n)))...)
	if got := k.asks(talk{Count: 1}); got != b.NS.Name {
		t.Errorf("after a restart without a change %q answers", got)
	}
	n.close()
	n.open()
	l.balance(both(demo(ready(c, n)))...)
	if got := k.say(talk{Count: 1})[0]; got.Err == "" {
		t.Errorf("the socket whose backend is gone got %+v", got)
	}
}

// A connected socket in a pod is told at once that a Service has no backend.
func TestConnectedUDPSocketIsRefusedAtOnce(t *testing.T) {
	inServiceModes(t, testConnectedUDPSocketIsRefusedAtOnce)
}

func testConnectedUDPSocketIsRefusedAtOnce(t *testing.T, mode setup) {
	l := newLab(t, 1, mode)
	n := l.nodes[0]
	a := n.addPod("a")
	l.balance(both(demo())...)
	for _, ipv6 := range []bool{false, true} {
		s := udpSocket{IPv6: ipv6, Connect: netip.AddrPortFrom(clusterIP, port)}
		before := time.Now()
		if got := n.holds(a.NS, s).say(talk{Count: 1})[0]; !strings.Contains(got.Err, "connection refused") {
			t.Errorf("%s: got %+v after %s, want a refusal", s, got, time.Since(before))
		}
	}
}
