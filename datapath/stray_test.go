package datapath_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/netnstest"
)

// eviction is which entries of a flow are lost, and what brings them back.
type eviction struct {
	ct, nat bool
	// client says that the client speaks, after the server; agent that the agent's collection comes then.
	client, agent bool
}

var evictions = map[string]eviction{
	"the opener's":                       {ct: true},
	"the answers', the client speaks":    {nat: true, client: true},
	"the answers', the agent looks":      {nat: true, agent: true},
	"both, the client speaks":            {ct: true, nat: true, client: true},
	"the opener's, the agent looks":      {ct: true, agent: true},
	"the opener's, the client speaks":    {ct: true, client: true},
	"none, the agent looks all the same": {agent: true},
}

// The far end of a connection speaks first after the node has lost what it knew of it. The node says nothing, and
// the connection goes on.
func TestFarEndSpeaksFirst(t *testing.T) {
	type connect func(*testing.T) (client, server *net.TCPConn)
	for kind, lay := range map[string]func(*testing.T, *lab) connect{
		"masqueraded": func(t *testing.T, l *lab) connect {
			to := netip.AddrPortFrom(l.outside.Addr, port)
			a, served := l.nodes[0].addPod("a"), accepting(t, l.outside.NS, to)
			return func(t *testing.T) (client, server *net.TCPConn) { return pair(t, a.NS, to, served) }
		},
		"a NodePort's": func(t *testing.T, l *lab) connect {
			b := l.nodes[1].addPod("b")
			l.balance(both(withNodePort(demo(ready(b, l.nodes[1]))))...)
			served := accepting(t, b.NS, b.at(port))
			return func(t *testing.T) (client, server *net.TCPConn) {
				return pair(t, l.outside.NS, netip.AddrPortFrom(l.nodes[0].Host.Addr, nodePort), served)
			}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			inMasqueradeModes(t, func(t *testing.T, mode setup) {
				l := newLab(t, 2, mode)
				connect := lay(t, l)
				for name, evict := range evictions {
					t.Run(name, func(t *testing.T) {
						c, s := connect(t)
						testSpeaksFirst(t, l.nodes[0], c, s, evict)
						// Nothing of it is left to the next one.
						closeBoth(t, l.nodes[0], c, s)
						l.nodes[0].dp.EvictFlows(t, true, true)
					})
				}
			})
		})
	}
}

// testSpeaksFirst has the server speak first after an eviction.
func testSpeaksFirst(t *testing.T, n *node, c, s *net.TCPConn, evict eviction) {
	t.Helper()
	say(t, c, s, "hello")
	say(t, s, c, "hello back")
	dropped := n.packets("no-flow", datapath.FromNetwork)
	n.dp.EvictFlows(t, evict.ct, evict.nat)
	n.dp.AgeFlows(t)
	must(t, second(s.Write([]byte("pushed"))))
	if evict.nat {
		eventually(t, func() bool { return n.packets("no-flow", datapath.FromNetwork) > dropped }, "an answer that is nobody's is dropped")
	}
	if evict.client {
		must(t, second(c.Write([]byte("more"))))
	}
	if evict.agent {
		got, err := n.dp.Services().Collect(ctx(t))
		must(t, err)
		if evict.nat && got.Restored == 0 {
			t.Errorf("collected %+v, and restored nothing", got)
		}
	}
	buf := []byte("pushed")
	c.SetReadDeadline(time.Now().Add(15 * time.Second))
	if size, err := c.Read(buf); err != nil || string(buf[:size]) != "pushed" {
		t.Fatalf("what the server said came as %q, %v", buf[:size], err)
	}
	if evict.client {
		s.SetReadDeadline(time.Now().Add(15 * time.Second))
		if size, err := s.Read(buf); err != nil || string(buf[:size]) != "more" {
			t.Fatalf("what the client said came as %q, %v", buf[:size], err)
		}
	}
	say(t, s, c, "and on")
	say(t, c, s, "and on")
}

// closeBoth closes the only connection that a node knows of.
func closeBoth(t *testing.T, n *node, ends ...*net.TCPConn) {
	t.Helper()
	for _, end := range ends {
		must(t, end.CloseWrite())
	}
	eventually(t, func() bool {
		return len(n.entriesWith(func(f api.Flow) bool { return f.State == "closing" })) == 2
	}, "the flow is closed")
}

// A collection puts nothing back that was not lost, and no flow that is over or has never been answered.
func TestOnlyLiveFlowsAreRestored(t *testing.T) {
	inMasqueradeModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 1, mode)
		n := l.nodes[0]
		to := netip.AddrPortFrom(l.outside.Addr, port)
		served := accepting(t, l.outside.NS, to)
		a := n.addPod("a")
		collect := func() int {
			t.Helper()
			got, err := n.dp.Services().Collect(ctx(t))
			must(t, err)
			return got.Restored
		}
		c, s := pair(t, a.NS, to, served)
		if got := collect(); got != 0 {
			t.Errorf("%d entries were restored of none that were lost", got)
		}
		n.dp.EvictFlows(t, false, true)
		if got := collect(); got != 1 {
			t.Errorf("%d entries of a live flow were restored, want 1", got)
		}
		say(t, s, c, "hello")
		closeBoth(t, n, c, s)
		u, err := a.Dial("udp4", netip.AddrPortFrom(netip.MustParseAddr("192.0.2.250"), 9)) // nobody's
		must(t, err)
		defer u.Close()
		must(t, second(u.Write([]byte("x"))))
		n.dp.EvictFlows(t, false, true)
		if got := collect(); got != 0 {
			t.Errorf("%d entries were restored, of flows that are over or have no answer", got)
		}
	})
}

// strayPort is one of those that flows get.
const strayPort = natFirst + 900

// What comes to a port of those that flows get, and is nobody's, is dropped without an answer, whatever it is. At
// other ports the node's stack answers as ever.
func TestStrayPackets(t *testing.T) {
	inServiceModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 1, mode)
		n := l.nodes[0]
		node := n.Host.Addr
		if c, err := l.outside.Dial("tcp4", netip.AddrPortFrom(node, 9)); !errors.Is(err, unix.ECONNREFUSED) {
			t.Fatalf("where nobody listens: %v, %v", c, err)
		}
		eth := l.outside.Capture(netnstest.NIC)
		for _, network := range []string{"tcp4", "udp4"} {
			before := n.packets("no-flow", datapath.FromNetwork)
			to := netip.AddrPortFrom(node, strayPort)
			if network == "udp4" {
				c, err := l.outside.Dial(network, to)
				must(t, err)
				defer c.Close()
				must(t, second(c.Write([]byte("x"))))
			} else {
				reset(t, l.outside.NS, netip.AddrPortFrom(l.outside.Addr, 80), to)
			}
			eventually(t, func() bool { return n.packets("no-flow", datapath.FromNetwork) == before+1 }, network+" is dropped and counted")
		}
		// An answer of the stack's would have come before one to what came later.
		c, err := l.outside.Dial("udp4", netip.AddrPortFrom(node, 9))
		must(t, err)
		defer c.Close()
		netnstest.ExpectRefused(t, c)
		for _, f := range eth.Frames() {
			if tcp, ok := f.Layer(layers.LayerTypeTCP).(*layers.TCP); ok && !f.Outgoing && tcp.SrcPort == strayPort {
				t.Errorf("the node answers: %s", f)
			}
			if isErrorAbout(f, netip.AddrPortFrom(l.outside.Addr, 0), netip.AddrPortFrom(node, strayPort)) {
				t.Errorf("the node answers: %s", f)
			}
		}
	})
}

// The node's sockets have what is theirs, also at a port of those that flows get: listeners, connections, datagrams.
func TestNoSocketsPacketIsStray(t *testing.T) {
	inServiceModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 1, mode)
		n := l.nodes[0]
		at := netip.AddrPortFrom(n.Host.Addr, strayPort)
		serve(l.outside.NS)
		n.ServeTCP(at)
		n.ServeUDP(at)
		for _, network := range []string{"tcp4", "udp4"} {
			if seen, err := l.outside.Ask(network, at, []byte("x")); err != nil || seen != l.outside.Addr {
				t.Errorf("%s to a socket of the node: seen is %s, %v", network, seen, err)
			}
			if seen, err := n.AskFrom(strayPort+1, network, netip.AddrPortFrom(l.outside.Addr, port), []byte("x")); err != nil || seen != n.Host.Addr {
				t.Errorf("%s from a socket of the node: seen is %s, %v", network, seen, err)
			}
		}
		if got := n.packets("no-flow", datapath.FromNetwork); got != 0 {
			t.Errorf("%d packets were dropped", got)
		}
	})
}

// Whom the kernel masquerades with a port of those that flows get has its answers: rules of others are not ours to break.
func TestNothingThatTheKernelTranslatesIsStray(t *testing.T) {
	inServiceModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 1, mode)
		n := l.nodes[0]
		container := netnstest.New(t, "container")
		netnstest.Connect(n.NS, "br-others", container, "eth0")
		n.AddAddr("br-others", netip.MustParsePrefix("172.17.0.1/16"))
		container.AddAddr("eth0", netip.MustParsePrefix("172.17.0.2/16"))
		container.AddRoute(netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.MustParseAddr("172.17.0.1"))
		for _, proto := range []string{"tcp", "udp"} {
			n.Run("iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "172.17.0.0/16", "-p", proto, "-j", "MASQUERADE", "--to-ports", "50000-50010")
		}
		serve(l.outside.NS)
		for _, network := range []string{"tcp4", "udp4"} {
			if seen, err := container.Ask(network, netip.AddrPortFrom(l.outside.Addr, port), []byte("x")); err != nil || seen != n.Host.Addr {
				t.Errorf("%s: seen is %s, %v", network, seen, err)
			}
		}
		if got := n.packets("no-flow", datapath.FromNetwork); got != 0 {
			t.Errorf("%d packets were dropped", got)
		}
	})
}

// A datagram that comes for a flow which was lost is not answered with an error.
func TestStrayDatagramEndsNoSocket(t *testing.T) {
	inMasqueradeModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 1, mode)
		n := l.nodes[0]
		server := listenUDP(t, l.outside.NS, netip.AddrPortFrom(l.outside.Addr, port))
		c, err := n.addPod("a").Dial("udp4", netip.AddrPortFrom(l.outside.Addr, port))
		must(t, err)
		defer c.Close()
		must(t, second(c.Write([]byte("hello"))))
		buf := make([]byte, 16)
		_, from, err := server.ReadFromUDPAddrPort(buf)
		must(t, err)
		server.Close()
		var back net.Conn
		l.outside.Do(func() {
			d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.outside.Addr, port))}
			back, err = d.DialContext(ctx(t), "udp4", from.String())
			must(t, err)
		})
		defer back.Close()
		say(t, back, c, "one")
		must(t, second(c.Write([]byte("two"))))
		must(t, second(back.Read(buf)))
		n.dp.EvictFlows(t, false, true)
		n.dp.AgeFlows(t)
		before := n.packets("no-flow", datapath.FromNetwork)
		must(t, second(back.Write([]byte("lost"))))
		eventually(t, func() bool { return n.packets("no-flow", datapath.FromNetwork) == before+1 }, "it is dropped and counted")
		back.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if _, err := back.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the server's socket has %v", err)
		}
		say(t, c, back, "three")
		say(t, back, c, "four")
	})
}
