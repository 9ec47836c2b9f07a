package datapath_test

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/netnstest"
)

const port = 8080

// anyPort listens on every address of a host.
var anyPort = netip.AddrPortFrom(netip.IPv4Unspecified(), port)

// asks is one conversation between two hosts, and what the server has to see as the client's address.
type asks struct {
	from *netnstest.NS
	to   netip.Addr
	seen netip.Addr
}

func (a asks) check(t *testing.T) {
	t.Helper()
	a.checkAt(t, port)
}

func (a asks) checkAt(t *testing.T, port uint16) {
	t.Helper()
	for _, network := range []string{"tcp4", "udp4"} {
		for _, size := range []int{1, 1472, 20000} {
			at, sent := netip.AddrPortFrom(a.to, port), bytes.Repeat([]byte("x"), size)
			seen, err := a.from.Ask(network, at, sent)
			if network == "udp4" && errors.Is(err, unix.EMSGSIZE) { // now it is known how much fits
				seen, err = a.from.Ask(network, at, sent)
			}
			if err != nil {
				t.Errorf("%s, %d bytes from %s to %s: %v", network, size, a.from.Name, a.to, err)
			} else if seen != a.seen {
				t.Errorf("%s from %s to %s: the server saw %s, want %s", network, a.from.Name, a.to, seen, a.seen)
			}
		}
	}
}

func serve(hosts ...*netnstest.NS) {
	for _, h := range hosts {
		h.ServeTCP(anyPort)
		h.ServeUDP(anyPort)
	}
}

func TestConversations(t *testing.T) {
	inModes(t, func(t *testing.T, mode setup) { converse(t, mode) })
}

func converse(t *testing.T, with ...func(*datapath.Config)) {
	l := newLab(t, 2, with...)
	for name, conversation := range l.conversations(l.nodes[0].addPod("a"), l.nodes[0].addPod("b"), l.nodes[1].addPod("c")) {
		t.Run(name, conversation.check)
	}
}

// conversations are those between two pods of the first node, one of the second, the nodes and the outside, which serve from
// now on: pods and nodes with their own addresses, the outside with the node's.
func (l *lab) conversations(a, b, c *pod) map[string]asks {
	node0, node1 := l.nodes[0], l.nodes[1]
	l.outside.AddRoute(node1.cfg.PodCIDR, node1.Host.Addr)
	serve(a.NS, b.NS, c.NS, node0.NS, node1.NS, l.outside.NS)
	return map[string]asks{
		"pod to pod on the same node":     {a.NS, b.Addr, a.Addr},
		"pod to pod on another node":      {a.NS, c.Addr, a.Addr},
		"and back":                        {c.NS, a.Addr, c.Addr},
		"pod to its node":                 {a.NS, node0.Host.Addr, a.Addr},
		"pod to another node":             {a.NS, node1.Host.Addr, a.Addr},
		"node to its pod":                 {node0.NS, a.Addr, node0.Host.Addr},
		"node to a pod on another node":   {node0.NS, c.Addr, node0.Host.Addr},
		"pod to the outside, masqueraded": {a.NS, l.outside.Addr, node0.Host.Addr},
		"outside to a pod":                {l.outside.NS, c.Addr, l.outside.Addr},
		"pod to itself":                   {a.NS, a.Addr, a.Addr},
	}
}

func TestPodsReachTheNativeCIDRWithTheirOwnAddress(t *testing.T) {
	inModes(t, testPodsReachTheNativeCIDRWithTheirOwnAddress)
}

func testPodsReachTheNativeCIDRWithTheirOwnAddress(t *testing.T, mode setup) {
	l := newLab(t, 1, mode)
	a := l.nodes[0].addPod("a")
	inside := netip.MustParseAddr("10.99.0.1")
	l.outside.AddAddr(netnstest.NIC, netip.PrefixFrom(inside, 32))
	l.outside.AddRoute(l.nodes[0].cfg.PodCIDR, l.nodes[0].Host.Addr)
	l.nodes[0].AddRoute(netip.PrefixFrom(inside, 32), l.outside.Addr)
	for _, addr := range []netip.Addr{inside, l.outside.Addr} {
		l.outside.ServeTCP(netip.AddrPortFrom(addr, port))
		l.outside.ServeUDP(netip.AddrPortFrom(addr, port))
	}
	asks{a.NS, inside, a.Addr}.check(t)
	// The same host by its other address shows that masquerading is on.
	asks{a.NS, l.outside.Addr, l.nodes[0].Host.Addr}.check(t)
}

func TestPing(t *testing.T) { inModes(t, testPing) }

func testPing(t *testing.T, mode setup) {
	l := newLab(t, 2, mode)
	a, b, c := l.nodes[0].addPod("a"), l.nodes[0].addPod("b"), l.nodes[1].addPod("c")
	for name, ping := range map[string]struct {
		from *pod
		to   netip.Addr
		ttl  int
	}{
		"same node":    {a, b.Addr, 63},
		"across nodes": {a, c.Addr, 62},
		"own node":     {a, l.nodes[0].Host.Addr, 64},
		"other node":   {a, l.nodes[1].Host.Addr, 63},
		"outside":      {a, l.outside.Addr, 63},
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{84, 1500} { // 1500 is the MTU, and requests carry DF
				echo, err := ping.from.Ping(ping.to, netnstest.PingOptions{Size: size})
				if err != nil {
					t.Fatalf("%d bytes: %v", size, err)
				}
				if echo.Type != ipv4.ICMPTypeEchoReply || echo.From != ping.to || echo.TTL != ping.ttl {
					t.Errorf("%d bytes: got %+v, want a reply from %s with TTL %d", size, echo, ping.to, ping.ttl)
				}
			}
			if _, err := ping.from.Ping(ping.to, netnstest.PingOptions{Size: 1501}); err == nil {
				t.Error("a packet beyond the MTU passed with DF set")
			}
		})
	}
}

// The node is the first hop, to a pod on the same node too.
func TestTimeExceeded(t *testing.T) { inModes(t, testTimeExceeded) }

func testTimeExceeded(t *testing.T, mode setup) {
	l := newLab(t, 2, mode)
	a, b, c := l.nodes[0].addPod("a"), l.nodes[0].addPod("b"), l.nodes[1].addPod("c")
	for name, hop := range map[string]struct {
		to   netip.Addr
		ttl  int
		from netip.Addr
		kind ipv4.ICMPType
	}{
		"same node, first hop":     {b.Addr, 1, l.nodes[0].Host.Addr, ipv4.ICMPTypeTimeExceeded},
		"same node, second hop":    {b.Addr, 2, b.Addr, ipv4.ICMPTypeEchoReply},
		"across nodes, first hop":  {c.Addr, 1, l.nodes[0].Host.Addr, ipv4.ICMPTypeTimeExceeded},
		"across nodes, second hop": {c.Addr, 2, l.nodes[1].Host.Addr, ipv4.ICMPTypeTimeExceeded},
		"across nodes, third hop":  {c.Addr, 3, c.Addr, ipv4.ICMPTypeEchoReply},
	} {
		t.Run(name, func(t *testing.T) {
			echo, err := a.Ping(hop.to, netnstest.PingOptions{TTL: hop.ttl})
			must(t, err)
			if echo.From != hop.from || echo.Type != hop.kind {
				t.Errorf("got %+v, want %s from %s", echo, hop.kind, hop.from)
			}
		})
	}
}

func TestForwardChain(t *testing.T) {
	l := newLab(t, 2)
	a, b, c := l.nodes[0].addPod("a"), l.nodes[0].addPod("b"), l.nodes[1].addPod("c")
	reach := func(to netip.Addr) bool {
		_, err := a.Ping(to, netnstest.PingOptions{Timeout: netnstest.NoAnswer})
		return err == nil
	}
	if !reach(b.Addr) || !reach(c.Addr) {
		t.Fatal("pods do not reach each other to begin with")
	}
	for _, n := range l.nodes {
		n.Run("iptables", "-P", "FORWARD", "DROP")
	}
	if !reach(b.Addr) {
		t.Error("traffic on the same node is lost: it went through the FORWARD chain")
	}
	if reach(c.Addr) {
		t.Error("traffic across nodes passes: it did not go through the FORWARD chain")
	}
}

func TestOwnMTU(t *testing.T) { inModes(t, testOwnMTU) }

func testOwnMTU(t *testing.T, mode setup) {
	l := newLab(t, 1, mode, func(c *datapath.Config) { c.MTU = 1400 })
	a, b := l.nodes[0].addPod("a"), l.nodes[0].addPod("b")
	if _, err := a.Ping(b.Addr, netnstest.PingOptions{Size: 1400}); err != nil {
		t.Errorf("a packet of the MTU is lost: %v", err)
	}
	if _, err := a.Ping(b.Addr, netnstest.PingOptions{Size: 1401}); err == nil {
		t.Error("a packet beyond the MTU passes")
	}
}

// Bulk data crosses the veths in pieces far larger than the MTU, or every byte would cost several times
// as much.
func TestLargeSendsStayLarge(t *testing.T) {
	inModes(t, func(t *testing.T, mode setup) { testLargeSendsStayLarge(t, newLab(t, 2, mode)) })
}

func testLargeSendsStayLarge(t *testing.T, l *lab) {
	a := l.nodes[0].addPod("a")
	for name, server := range map[string]*pod{"same node": l.nodes[0].addPod("b"), "across nodes": l.nodes[1].addPod("c")} {
		t.Run(name, func(t *testing.T) {
			server.ServeTCP(anyPort)
			eth := server.Capture("eth0")
			largest := 0
			for range 3 { // on a machine that is slow or busy windows are small, and so is what is sent at once
				_, err := a.Ask("tcp4", server.at(port), bytes.Repeat([]byte("x"), 1<<20))
				must(t, err)
				for _, f := range eth.Frames() {
					if !f.Outgoing {
						largest = max(largest, len(f.Data()))
					}
				}
				if largest >= 5*1500 {
					break
				}
			}
			if largest < 5*1500 {
				t.Errorf("the largest frame has %d bytes", largest)
			}
		})
	}
}
