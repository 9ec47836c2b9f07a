package datapath_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/netnstest"
)

// entriesWith are the entries of both maps that is says yes to.
func (n *node) entriesWith(is func(api.Flow) bool) (list []api.Flow) {
	n.t.Helper()
	n.Do(func() {
		flows, err := n.dp.Services().Flows(ctx(n.t))
		must(n.t, err)
		answers, err := n.dp.Services().Translations(ctx(n.t))
		must(n.t, err)
		for _, f := range append(flows, answers...) {
			if is(f) {
				list = append(list, f)
			}
		}
	})
	return list
}

// accepting listens and hands out what it accepts.
func accepting(t *testing.T, ns *netnstest.NS, at netip.AddrPort) <-chan *net.TCPConn {
	t.Helper()
	var ln net.Listener
	ns.Do(func() {
		var err error
		ln, err = net.Listen("tcp4", at.String())
		must(t, err)
	})
	t.Cleanup(func() { ln.Close() })
	served := make(chan *net.TCPConn, 64)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			served <- c.(*net.TCPConn)
		}
	}()
	return served
}

// pair connects and returns both ends.
func pair(t *testing.T, from *netnstest.NS, to netip.AddrPort, served <-chan *net.TCPConn) (client, server *net.TCPConn) {
	t.Helper()
	c, err := from.Dial("tcp4", to)
	must(t, err)
	client = c.(*net.TCPConn)
	t.Cleanup(func() { client.Close() })
	select {
	case server = <-served:
		t.Cleanup(func() { server.Close() })
	case <-time.After(10 * time.Second):
		t.Fatal("nobody accepts")
	}
	return client, server
}

// Both ends say goodbye at once: neither FIN is lost to the other, which another CPU may be writing down.
func TestBothEndsCloseAtOnce(t *testing.T) {
	for name, test := range map[string]struct {
		mode     setup
		nodePort bool
		times    int
	}{
		"ebpf, masqueraded":           {routed, false, 4000},
		"BPF masquerade, masqueraded": {masqueraded, false, 1000},
		"ebpf, by a NodePort":         {routed, true, 2000},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 2, test.mode)
			n := l.nodes[0]
			client, server, to := n.addPod("a").NS, l.outside.NS, netip.AddrPortFrom(l.outside.Addr, port)
			at := to
			if test.nodePort {
				b := l.nodes[1].addPod("b")
				l.balance(both(withNodePort(demo(ready(b, l.nodes[1]))))...)
				client, server, to, at = l.outside.NS, b.NS, netip.AddrPortFrom(n.Host.Addr, nodePort), b.at(port)
			}
			served := accepting(t, server, at)
			client.Do(func() {
				for range test.times {
					c, err := net.Dial("tcp4", to.String())
					must(t, err)
					s := <-served
					start := make(chan struct{})
					var wg sync.WaitGroup
					for _, end := range []*net.TCPConn{c.(*net.TCPConn), s} {
						wg.Go(func() { <-start; end.CloseWrite() })
					}
					close(start)
					wg.Wait()
					c.Close()
					s.Close()
				}
			})
			var seen, reset int
			eventually(t, func() bool {
				seen, reset = 0, 0
				left := n.entriesWith(func(f api.Flow) bool {
					closed := f.Expires < 2*time.Minute
					switch {
					case f.Protocol != "tcp":
						return false
					case closed && f.State == "closing":
						seen++
					case closed && f.State == "reset":
						reset++
					default:
						return true
					}
					return false
				})
				return len(left) == 0
			}, "no flow stays")
			// An ACK that its FIN has overtaken is answered by TIME_WAIT, and that by a RST where the socket is gone: in one of
			// some hundred thousand connections.
			if reset > 6 { // of three
				t.Errorf("%d entries are of flows that were reset, and %d of flows that both ends closed", reset, seen)
			}
			if seen < test.times {
				t.Errorf("the maps have %d entries of %d flows that both ends closed: this says nothing", seen, 2*test.times)
			}
		})
	}
}

// reset sends a RST with a sequence number that no window has.
func reset(t *testing.T, from *netnstest.NS, src, dst netip.AddrPort) {
	t.Helper()
	rst := make([]byte, 20)
	binary.BigEndian.PutUint16(rst[0:], src.Port())
	binary.BigEndian.PutUint16(rst[2:], dst.Port())
	binary.BigEndian.PutUint32(rst[4:], 0x12345678)
	rst[12], rst[13] = 5<<4, 4
	pseudo := make([]byte, 12)
	a, b := src.Addr().As4(), dst.Addr().As4()
	copy(pseudo, a[:])
	copy(pseudo[4:], b[:])
	pseudo[9], pseudo[11] = unix.IPPROTO_TCP, 20
	binary.BigEndian.PutUint16(rst[16:], ^sum(pseudo, rst))
	from.Do(func() {
		raw, err := net.ListenPacket("ip4:tcp", src.Addr().String())
		must(t, err)
		defer raw.Close()
		must(t, second(raw.WriteTo(rst, &net.IPAddr{IP: dst.Addr().AsSlice()})))
	})
}

// say has one end write and the other read.
func say(t *testing.T, from, to net.Conn, what string) {
	t.Helper()
	must(t, second(from.Write([]byte(what))))
	buf := make([]byte, 64)
	to.SetReadDeadline(time.Now().Add(15 * time.Second))
	if n, err := to.Read(buf); err != nil || string(buf[:n]) != what {
		t.Errorf("%q came as %q, %v", what, buf[:max(n, 0)], err)
	}
}

// A reset that no end accepts ends no flow: what comes after it says that the flow lives.
func TestBlindReset(t *testing.T) {
	type flow struct {
		client *netnstest.NS
		server *netnstest.NS
		at, to netip.AddrPort
		on     *node
	}
	for name, make := range map[string]func(l *lab) flow{
		"masqueraded": func(l *lab) flow {
			at := netip.AddrPortFrom(l.outside.Addr, port)
			return flow{l.nodes[0].addPod("a").NS, l.outside.NS, at, at, l.nodes[0]}
		},
		"a NodePort's, backend elsewhere": func(l *lab) flow {
			b := l.nodes[1].addPod("b")
			l.balance(both(withNodePort(demo(ready(b, l.nodes[1]))))...)
			return flow{l.outside.NS, b.NS, b.at(port), netip.AddrPortFrom(l.nodes[0].Host.Addr, nodePort), l.nodes[0]}
		},
		"a NodePort's, backend here": func(l *lab) flow {
			b := l.nodes[0].addPod("b")
			l.balance(both(withNodePort(demo(ready(b, l.nodes[0]))))...)
			return flow{l.outside.NS, b.NS, b.at(port), netip.AddrPortFrom(l.nodes[0].Host.Addr, nodePort), l.nodes[0]}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inMasqueradeModes(t, func(t *testing.T, mode setup) {
				l := newLab(t, 2, mode)
				f := make(l)
				c, s := pair(t, f.client, f.to, accepting(t, f.server, f.at))
				say(t, c, s, "hello")
				say(t, s, c, "hello back")
				local := netip.MustParseAddrPort(c.LocalAddr().String())
				peer := netip.MustParseAddrPort(s.RemoteAddr().String())
				of := func(state string) int {
					return len(f.on.entriesWith(func(e api.Flow) bool {
						return (e.Src == local || e.NewDst == local) && e.State == state
					}))
				}
				if got := of("answered"); got != 2 {
					t.Fatalf("%d entries are answered, want 2", got)
				}
				for from, reset := range map[string]func(){
					"the server": func() { reset(t, f.server, f.at, peer) },
					"the client": func() { reset(t, f.client, local, f.to) },
				} {
					reset()
					eventually(t, func() bool { return of("reset") == 2 }, "the reset from "+from+" is seen")
					say(t, s, c, "still here")
					say(t, c, s, "so am I")
					if got := of("answered"); got != 2 {
						t.Errorf("after a reset from %s and data, %d entries are answered, want 2", from, got)
					}
				}
			})
		})
	}
}

// A node gets another address. What asks and answers goes on with that one; a connection with the old address
// cannot, and is told so.
func TestNodeAddressChanges(t *testing.T) {
	inMasqueradeModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 1, mode)
		n := l.nodes[0]
		a := n.addPod("a")
		server := netip.AddrPortFrom(l.outside.Addr, port)
		l.outside.ServeUDP(server)
		served := accepting(t, l.outside.NS, server)
		u, c := dialFrom(t, a.NS, "udp4", 40000, server), dialFrom(t, a.NS, "tcp4", 40000, server)
		s := <-served
		defer s.Close()
		say(t, c, s, "hello")
		if got := seenAs(t, u); !strings.HasPrefix(got, n.Host.Addr.String()+":") || !strings.HasPrefix(s.RemoteAddr().String(), n.Host.Addr.String()+":") {
			t.Fatalf("seen as %s and %s", got, s.RemoteAddr())
		}
		must(t, second(a.Ping(server.Addr(), netnstest.PingOptions{})))

		other := netip.MustParseAddr("192.0.2.200")
		n.close()
		n.Run("ip", "addr", "del", n.Host.Addr.String()+"/24", "dev", netnstest.NIC)
		n.Run("ip", "addr", "add", other.String()+"/24", "dev", netnstest.NIC)
		n.Run("ip", "route", "replace", "default", "via", l.outside.Addr.String())
		n.cfg.NodeIP = other
		n.open()
		n.Do(func() { must(t, n.dp.Masquerade().Apply(ctx(t), l.desired())) })

		if got := seenAs(t, u); !strings.HasPrefix(got, other.String()+":") {
			t.Errorf("datagrams of a flow from before are seen as %s, want %s", got, other)
		}
		must(t, second(a.Ping(server.Addr(), netnstest.PingOptions{})))
		c.SetDeadline(time.Now().Add(10 * time.Second))
		must(t, second(c.Write([]byte("?"))))
		if _, err := io.Copy(io.Discard, c); !errors.Is(err, unix.ECONNRESET) {
			t.Fatalf("a connection from before ends with %v, want a reset", err)
		}
		c.Close()
		again := dialFrom(t, a.NS, "tcp4", 40000, server)
		s = <-served
		defer s.Close()
		say(t, again, s, "hello again")
		if got := s.RemoteAddr().String(); !strings.HasPrefix(got, other.String()+":") {
			t.Errorf("a new connection from the same port is seen as %s", got)
		}
		for _, f := range n.flowsOf("masquerade") {
			if f.NewSrc.Addr() != other {
				t.Errorf("a flow still has the old address: %s", fmt.Sprint(f))
			}
		}
	})
}
