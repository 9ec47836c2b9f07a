package datapath_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/netnstest"
)

// ownPort is a port of frontends, and the local one of connections that the node itself opens.
const ownPort = 40123

// A node's own connection keeps its answers when its local port is also a frontend's, and the frontend its
// clients.
func TestNodesOwnConnections(t *testing.T) { inModes(t, testNodesOwnConnections) }

func testNodesOwnConnections(t *testing.T, mode setup) {
	l := newLab(t, 2, mode)
	n, m := l.nodes[0], l.nodes[1]
	a, b, c := n.addPod("a"), n.addPod("b"), m.addPod("c")
	sign(t, a.NS, b.NS, c.NS, l.outside.NS)
	own := map[string]netip.AddrPort{
		l.outside.NS.Name: netip.AddrPortFrom(l.outside.Addr, port),
		a.NS.Name:         a.at(port),
		c.NS.Name:         c.at(port),
	}
	try := func(t *testing.T, from int) {
		for name, to := range own {
			for _, network := range []string{"tcp4", "udp4"} {
				conn := n.dialOwn(t, network, from, to)
				for range 3 {
					if got, err := who(conn); err != nil || got != name {
						t.Errorf("%s from port %d to %s: %q, %v", network, from, to, got, err)
						break
					}
				}
			}
			got, err := n.askUnconnected(from+1, to)
			if err != nil || got != name {
				t.Errorf("a datagram from an unconnected socket at port %d to %s: %q, %v", from+1, to, got, err)
			}
		}
	}
	try(t, 41000) // the control: no frontend's port
	for name, s := range n.ownFrontends(b) {
		if !n.cfg.KubeProxyReplacement && name != "host port" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			n.apply(s)
			t.Run("while the node uses the port", func(t *testing.T) {
				try(t, ownPort)
				for _, network := range []string{"tcp4", "udp4"} {
					if got, err := whoAt(t, m.NS, network, netip.AddrPortFrom(n.Host.Addr, ownPort)); err != nil || got != b.NS.Name {
						t.Errorf("%s: a client beside: %q, %v", network, got, err)
					}
				}
			})
			for client, ns := range map[string]*netnstest.NS{"outside": l.outside.NS, "a pod": a.NS} {
				for _, network := range []string{"tcp4", "udp4"} {
					for _, p := range []uint16{ownPort, ownPort + 1} {
						if got, err := whoAt(t, ns, network, netip.AddrPortFrom(n.Host.Addr, p)); err != nil || got != b.NS.Name {
							t.Errorf("%s from %s to %d: %q, %v", network, client, p, got, err)
						}
					}
				}
			}
		})
	}
}

// ownFrontends are those that are on the node's address, of each kind.
func (n *node) ownFrontends(b *pod) map[string]lb.State {
	states := map[string]lb.State{}
	var ports []lb.HostPort
	services := map[lb.FrontendKind][]lb.Service{}
	for _, p := range []uint16{ownPort, ownPort + 1} {
		for _, proto := range []string{"tcp", "udp"} {
			ports = append(ports, lb.HostPort{Proto: proto, Port: p, Backend: b.at(port)})
		}
		for kind, addr := range map[lb.FrontendKind]netip.Addr{lb.NodePort: {}, lb.ExternalIP: n.Host.Addr, lb.LoadBalancer: n.Host.Addr} {
			s := demo(ready(b, n))
			s.Name = fmt.Sprint("demo", p)
			s.Frontends = []lb.Frontend{{Kind: kind, Addr: addr, Port: p}}
			services[kind] = append(services[kind], both(s)...)
		}
	}
	states["host port"] = lb.State{HostPorts: ports}
	for kind, list := range services {
		states[string(kind)] = lb.State{Services: list}
	}
	return states
}

// apply gives the state to who serves it in the node's mode.
func (n *node) apply(s lb.State) {
	n.t.Helper()
	if n.cfg.KubeProxyReplacement {
		n.balance(s)
		return
	}
	n.Do(func() { must(n.t, n.dp.HostPorts().Apply(ctx(n.t), s.HostPorts)) })
}

// dialOwn connects from a port that others may have too. Its end leaves nothing behind.
func (n *node) dialOwn(t *testing.T, network string, from int, to netip.AddrPort) net.Conn {
	t.Helper()
	c := dialShared(t, n.NS, network, from, to)
	if tcp, ok := c.(*net.TCPConn); ok {
		t.Cleanup(func() { must(t, tcp.SetLinger(0)) })
	}
	return c
}

// askUnconnected sends a datagram from a port and waits for the answer.
func (n *node) askUnconnected(from int, to netip.AddrPort) (answer string, err error) {
	n.t.Helper()
	n.Do(func() {
		var c *net.UDPConn
		if c, err = net.ListenUDP("udp4", &net.UDPAddr{Port: from}); err != nil {
			return
		}
		defer c.Close()
		if _, err = c.WriteToUDPAddrPort([]byte("?"), to); err != nil {
			return
		}
		buf := make([]byte, 64)
		if err = c.SetReadDeadline(time.Now().Add(netnstest.ProbeTimeout)); err != nil {
			return
		}
		var size int
		size, _, err = c.ReadFromUDPAddrPort(buf)
		answer = string(buf[:size])
	})
	return answer, err
}
