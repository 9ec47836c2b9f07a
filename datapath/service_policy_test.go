package datapath_test

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/netnstest"
)

func TestBackendsAreChosenEvenly(t *testing.T) { inServiceModes(t, testBackendsAreChosenEvenly) }

func testBackendsAreChosenEvenly(t *testing.T, mode setup) {
	l := newLab(t, 1, mode)
	n := l.nodes[0]
	a := n.addPod("a")
	backends := map[string]*pod{}
	var list []lb.Backend
	for _, name := range []string{"b", "c", "d"} {
		p := n.addPod(name)
		backends[name] = p
		list = append(list, ready(p, n))
		sign(t, p.NS)
	}
	l.balance(both(demo(list...))...)
	for _, network := range []string{"tcp4", "udp4"} {
		found := census(t, a.NS, network, netip.AddrPortFrom(clusterIP, port), 150)
		for _, p := range backends {
			// 50 are expected; fewer than 25 is less likely than one in 100,000.
			if found[p.NS.Name] < 25 {
				t.Errorf("%s: of 150 connections %s got %d: %v", network, p.NS.Name, found[p.NS.Name], found)
			}
			delete(found, p.NS.Name)
		}
		if len(found) > 0 {
			t.Errorf("%s: other answers: %v", network, found)
		}
	}
}

func TestServiceWithoutBackends(t *testing.T) { inServiceModes(t, testServiceWithoutBackends) }

func testServiceWithoutBackends(t *testing.T, mode setup) {
	l := newLab(t, 2, mode)
	n := l.nodes[0]
	a := n.addPod("a")
	l.balance(both(withNodePort(demo()))...)
	for name, from := range map[string]struct {
		*netnstest.NS
		to  netip.AddrPort
		dir datapath.Direction
	}{
		"from a pod":                {a.NS, netip.AddrPortFrom(clusterIP, port), datapath.FromPod},
		"from a pod, at a NodePort": {a.NS, netip.AddrPortFrom(n.Host.Addr, nodePort), datapath.FromPod},
		"from the outside":          {l.outside.NS, netip.AddrPortFrom(n.Host.Addr, nodePort), datapath.FromNetwork},
	} {
		t.Run(name, func(t *testing.T) {
			before := n.packets("no-backend", from.dir)
			start := time.Now()
			if _, err := from.Dial("tcp4", from.to); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("tcp: got %v, want a refusal", err)
			}
			c, err := from.Dial("udp4", from.to)
			must(t, err)
			defer c.Close()
			netnstest.ExpectRefused(t, c)
			if took := time.Since(start); took > netnstest.ProbeTimeout/2 {
				t.Errorf("the refusals took %s", took)
			}
			if got := n.packets("no-backend", from.dir) - before; got < 2 {
				t.Errorf("%d packets were counted, want one of each protocol", got)
			}
		})
	}
}

// A Service that only takes backends on the node, and has some elsewhere, does not refuse: a balancer in
// front of the nodes shall notice by its health checks.
func TestLocalPolicies(t *testing.T) { inServiceLabs(t, 3, testLocalPolicies) }

func testLocalPolicies(t *testing.T, l *lab) {
	n, m, none := l.nodes[0], l.nodes[1], l.nodes[2]
	a, b, c, d := n.addPod("a"), n.addPod("b"), m.addPod("c"), none.addPod("d")
	s := withNodePort(demo(ready(b, n), ready(c, m)))
	s.InternalLocal, s.ExternalLocal = true, true
	l.balance(both(s)...)
	sign(t, b.NS, c.NS)
	serviceAt, all := netip.AddrPortFrom(clusterIP, port), map[string]bool{b.NS.Name: true, c.NS.Name: true}
	for name, test := range map[string]struct {
		from *netnstest.NS
		to   netip.AddrPort
		want map[string]bool // nil: no answer, and no refusal
	}{
		"internal, with a backend":     {a.NS, serviceAt, map[string]bool{b.NS.Name: true}},
		"internal, without":            {d.NS, serviceAt, nil},
		"external, with a backend":     {l.outside.NS, netip.AddrPortFrom(m.Host.Addr, nodePort), map[string]bool{c.NS.Name: true}},
		"external, without":            {l.outside.NS, netip.AddrPortFrom(none.Host.Addr, nodePort), nil},
		"a pod at its node's NodePort": {d.NS, netip.AddrPortFrom(none.Host.Addr, nodePort), all},
	} {
		t.Run(name, func(t *testing.T) {
			if test.want == nil {
				test.from.Do(func() {
					c, err := net.DialTimeout("tcp4", test.to.String(), netnstest.NoAnswer)
					if err == nil {
						c.Close()
					}
					if err == nil || errors.Is(err, syscall.ECONNREFUSED) {
						t.Errorf("got %v, want silence", err)
					}
				})
				return
			}
			for found := range census(t, test.from, "tcp4", test.to, 20) {
				if !test.want[found] {
					t.Errorf("got %q, want one of %v", found, test.want)
				}
			}
		})
	}
	if none.packets("no-local-backend", datapath.FromPod) == 0 || none.packets("no-local-backend", datapath.FromNetwork) == 0 {
		t.Error("what was dropped for want of a local backend was not counted")
	}
}

func TestExternalLocalKeepsTheClientsAddress(t *testing.T) {
	inServiceLabs(t, 2, testExternalLocalKeepsTheClientsAddress)
}

func testExternalLocalKeepsTheClientsAddress(t *testing.T, l *lab) {
	n := l.nodes[0]
	b := n.addPod("b")
	s := withNodePort(demo(ready(b, n)))
	s.ExternalLocal = true
	l.balance(both(s)...)
	serve(b.NS)
	asks{l.outside.NS, n.Host.Addr, l.outside.Addr}.checkAt(t, nodePort)
}

func TestSessionAffinity(t *testing.T) { inServiceModes(t, testSessionAffinity) }

func testSessionAffinity(t *testing.T, mode setup) {
	l := newLab(t, 1, mode)
	n := l.nodes[0]
	a := n.addPod("a")
	var list []lb.Backend
	var pods []*pod
	for _, name := range []string{"b", "c", "d", "e"} {
		p := n.addPod(name)
		pods = append(pods, p)
		list = append(list, ready(p, n))
		sign(t, p.NS)
	}
	s := withNodePort(demo(list...))
	s.Affinity = time.Second
	l.balance(both(s)...)
	t.Run("clients", func(t *testing.T) { // at once, as they wait
		for name, client := range map[string]struct {
			*netnstest.NS
			to netip.AddrPort
		}{
			"a pod":   {a.NS, netip.AddrPortFrom(clusterIP, port)},
			"outside": {l.outside.NS, netip.AddrPortFrom(n.Host.Addr, nodePort)},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				got := map[string]int{}
				for range 30 { // for longer than a second: the programs count whole ones, and a client is to notice no end of any
					name, err := whoAt(t, client.NS, "tcp4", client.to)
					must(t, err)
					got[name]++
					time.Sleep(50 * time.Millisecond)
				}
				if len(got) != 1 {
					t.Errorf("one client got %v", got)
				}
				// After the timeout a client may get any: over several rounds, more than one. By chance it gets the same one of four in
				// all of them once in a billion times.
				found := map[string]bool{}
				for range 16 {
					time.Sleep(2100 * time.Millisecond) // longer than the affinity lasts, which is up to a second more: that is what is tested
					name, err := whoAt(t, client.NS, "tcp4", client.to)
					must(t, err)
					if found[name] = true; len(found) > 1 {
						return
					}
				}
				t.Errorf("in 16 rounds after the affinity's end it got only %v", found)
			})
		}
	})
	t.Run("a backend that is gone", func(t *testing.T) {
		s.Affinity = time.Hour
		l.balance(both(s)...)
		before, err := whoAt(t, a.NS, "tcp4", netip.AddrPortFrom(clusterIP, port))
		must(t, err)
		rest := s
		rest.Backends = nil
		for i, p := range pods {
			if p.NS.Name != before {
				rest.Backends = append(rest.Backends, list[i])
			}
		}
		l.balance(both(rest)...)
		found := census(t, a.NS, "tcp4", netip.AddrPortFrom(clusterIP, port), 20)
		if len(found) != 1 || found[before] > 0 {
			t.Errorf("after %s was gone the client got %v", before, found)
		}
	})
}
