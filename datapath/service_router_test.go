package datapath_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/netnstest"
)

// echoTCP serves what it is sent, however much.
func echoTCP(t *testing.T, ns *netnstest.NS) {
	t.Helper()
	acceptAll(t, ns, func(c net.Conn) { io.Copy(c, c) })
}

// exchange sends much over a new connection, and wants all of it back.
func exchange(t *testing.T, from *netnstest.NS, to netip.AddrPort) error {
	t.Helper()
	c, err := from.Dial("tcp4", to)
	if err != nil {
		return err
	}
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	sent := bytes.Repeat([]byte("0123456789abcdef"), 60000/16)
	go c.Write(sent)
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, sent) {
		return errors.New("it is not what was sent")
	}
	return nil
}

// The ways around the node that was asked are narrower than what its neighbours know: who sends too much,
// client or backend, is told, and goes on with less.
func TestNodePortOverNarrowWays(t *testing.T) {
	inServiceModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 2, mode)
		n, m := l.nodes[0], l.nodes[1]
		near, far := n.addPod("near"), m.addPod("far")
		for name, backend := range map[string]struct {
			*pod
			node *node
		}{"near": {near, n}, "far": {far, m}} {
			echoTCP(t, backend.NS)
			l.balance(withNodePort(tcpOnly(demo(ready(backend.pod, backend.node)))))
			for what, narrow := range map[string][]string{
				"none":          nil,
				"to the client": {l.outside.Addr.String() + "/32", "dev", netnstest.NIC, "mtu", "lock", "1200"},
				"to the pods":   {m.cfg.PodCIDR.String(), "via", m.Host.Addr.String(), "mtu", "lock", "1100"},
			} {
				t.Run(name+"/"+what, func(t *testing.T) {
					if narrow != nil {
						n.Run(append([]string{"ip", "route", "replace"}, narrow...)...)
					}
					if err := exchange(t, l.outside.NS, netip.AddrPortFrom(n.Host.Addr, nodePort)); err != nil {
						t.Error(err)
					}
					switch what {
					case "to the client":
						n.Run("ip", "route", "del", narrow[0])
					case "to the pods":
						n.Run("ip", "route", "replace", m.cfg.PodCIDR.String(), "via", m.Host.Addr.String())
					}
					for _, h := range []*netnstest.NS{l.outside.NS, backend.NS} { // what they have learned
						h.Run("ip", "route", "flush", "cache")
					}
				})
			}
		}
	})
}

func tcpOnly(s lb.Service) lb.Service {
	s.Proto = "tcp"
	return s
}

// A client whose packets have no hop left at the node that it asks is told by that node, and so is one whose
// backend cannot be reached.
func TestNodePortExplains(t *testing.T) {
	inServiceModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 2, mode)
		n, m := l.nodes[0], l.nodes[1]
		near, far := n.addPod("near"), m.addPod("far")
		for name, test := range map[string]struct {
			backend lb.Backend
			ttl     int
			route   []string
			err     error
		}{
			"the last hop, near": {backend: ready(near, n), ttl: 1, err: unix.EHOSTUNREACH},
			"the last hop, far":  {backend: ready(far, m), ttl: 1, err: unix.EHOSTUNREACH},
			"unreachable":        {backend: ready(far, m), ttl: 64, route: []string{"unreachable", far.Addr.String()}, err: unix.EHOSTUNREACH},
			"prohibited":         {backend: ready(far, m), ttl: 64, route: []string{"prohibit", far.Addr.String()}, err: unix.EHOSTUNREACH},
		} {
			t.Run(name, func(t *testing.T) {
				l.balance(both(withNodePort(demo(test.backend)))...)
				if test.route != nil {
					n.Run(append([]string{"ip", "route", "add"}, test.route...)...)
					defer n.Run("ip", "route", "del", far.Addr.String())
				}
				got := l.outside.Capture(netnstest.NIC)
				c, err := l.outside.Dial("udp4", netip.AddrPortFrom(n.Host.Addr, nodePort))
				must(t, err)
				defer c.Close()
				setTTL(t, c, test.ttl)
				must(t, second(c.Write([]byte("hello"))))
				if _, err := c.Read(make([]byte, 16)); !errors.Is(err, test.err) {
					t.Errorf("the client's socket got %v", err)
				}
				at := netip.MustParseAddrPort(c.LocalAddr().String())
				awaitFrame(t, got, "an error about what the client sent", func(f netnstest.Frame) bool {
					return isErrorAbout(f, at, netip.AddrPortFrom(n.Host.Addr, nodePort)) &&
						f.NetworkLayer().NetworkFlow().Src().String() == n.Host.Addr.String()
				})
			})
		}
	})
}

// Answers to a masqueraded pod that do not get there, having no hop left or being too large for it: who sent
// them is told of what it sent, to the node's address.
func TestErrorsAboutAnswersToMasqueradedPods(t *testing.T) {
	inMasqueradeModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 1, mode, func(c *datapath.Config) { c.MTU = 1400 })
		n := l.nodes[0]
		a := n.addPod("a")
		for name, test := range map[string]struct{ size, ttl int }{"the last hop": {8, 1}, "too large": {1450, 64}} {
			t.Run(name, func(t *testing.T) {
				server := listenUDP(t, l.outside.NS, anyPort)
				defer server.Close()
				client, err := a.Dial("udp4", netip.AddrPortFrom(l.outside.Addr, port))
				must(t, err)
				defer client.Close()
				must(t, second(client.Write([]byte("hello"))))
				_, from, err := server.ReadFromUDPAddrPort(make([]byte, 16))
				must(t, err)
				must(t, ipv4.NewConn(server).SetTTL(test.ttl))
				dontFragment(t, server)
				got := l.outside.Capture(netnstest.NIC)
				must(t, second(server.WriteToUDPAddrPort(make([]byte, test.size), from)))
				awaitFrame(t, got, "an error about the answer", func(f netnstest.Frame) bool {
					return isErrorAbout(f, netip.AddrPortFrom(l.outside.Addr, port), from)
				})
			})
		}
	})
}

func dontFragment(t *testing.T, c *net.UDPConn) {
	t.Helper()
	setMTUDiscovery(t, c, unix.IP_PMTUDISC_DO)
}

func setMTUDiscovery(t *testing.T, c *net.UDPConn, how int) {
	t.Helper()
	raw, err := c.SyscallConn()
	must(t, err)
	var set error
	must(t, raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, how) }))
	must(t, set)
}

// thereAndBack sends datagrams of these sizes to a backend, and each of them back.
func thereAndBack(t *testing.T, client, server *net.UDPConn, sizes ...int) {
	t.Helper()
	for _, size := range sizes {
		sent := bytes.Repeat([]byte("x"), size)
		must(t, second(client.Write(sent)))
		got := make([]byte, 5000)
		length, from, err := server.ReadFromUDPAddrPort(got)
		if err != nil || !bytes.Equal(got[:length], sent) {
			t.Fatalf("%d bytes to the backend: %d came, %v", size, length, err)
		}
		must(t, second(server.WriteToUDPAddrPort(sent, from)))
		if length, err := client.Read(got); err != nil || !bytes.Equal(got[:length], sent) {
			t.Fatalf("%d bytes to the client: %d came, %v", size, length, err)
		}
	}
}

// A datagram that may be cut up is, where the way through the node that was asked is too narrow for it.
func TestNodePortCutsUpWhatMayBe(t *testing.T) {
	inServiceModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 2, mode)
		n, m := l.nodes[0], l.nodes[1]
		far := m.addPod("far")
		udp := demo(ready(far, m))
		udp.Proto = "udp"
		l.balance(withNodePort(udp))
		n.Run("ip", "route", "replace", m.cfg.PodCIDR.String(), "via", m.Host.Addr.String(), "mtu", "lock", "1100")
		n.Run("ip", "route", "replace", l.outside.Addr.String()+"/32", "dev", netnstest.NIC, "mtu", "lock", "1200")
		server := listenUDP(t, far.NS, anyPort)
		dialed, err := l.outside.Dial("udp4", netip.AddrPortFrom(n.Host.Addr, nodePort))
		must(t, err)
		client := dialed.(*net.UDPConn)
		defer client.Close()
		setMTUDiscovery(t, client, unix.IP_PMTUDISC_DONT)
		setMTUDiscovery(t, server, unix.IP_PMTUDISC_DONT)
		must(t, client.SetDeadline(time.Now().Add(10*netnstest.ProbeTimeout)))
		thereAndBack(t, client, server, 100, 1400, 4000)
	})
}
