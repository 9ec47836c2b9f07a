package datapath_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/netnstest"
)

const nodePort = 32000

// hairpin is the client that a pod sees when it reaches itself through its Service.
var hairpin = netip.MustParseAddr("169.254.87.1")

// setup changes a node's settings.
type setup func(*datapath.Config)

// kubeProxy leaves Services to others.
func kubeProxy(c *datapath.Config) { c.KubeProxyReplacement = false }

// replacement makes a lab's nodes translate Services themselves, and leave the rest to their stack.
func replacement(c *datapath.Config) { c.KubeProxyReplacement = true }

// masqueraded is replacement with BPF at the NICs for iptables, and the stack in between all the same.
func masqueraded(c *datapath.Config) {
	replacement(c)
	c.BPF.Masquerade, c.BPF.HostLegacyRouting = true, true
}

// routed makes BPF route too.
func routed(c *datapath.Config) {
	replacement(c)
	c.BPF.Masquerade = true
}

// inServiceModes runs a test in every mode that translates Services, inModes in all.
func inServiceModes(t *testing.T, f func(*testing.T, setup)) {
	t.Run("kubeproxy-replacement", func(t *testing.T) { f(t, replacement) })
	t.Run("BPF masquerade", func(t *testing.T) { f(t, masqueraded) })
	t.Run("ebpf", func(t *testing.T) { f(t, routed) })
}

func inModes(t *testing.T, f func(*testing.T, setup)) {
	t.Run("kubeproxy", func(t *testing.T) { f(t, kubeProxy) })
	inServiceModes(t, f)
}

// inServiceLabs runs a test in a lab of so many nodes, in every mode that translates Services.
func inServiceLabs(t *testing.T, nodes int, f func(*testing.T, *lab)) {
	inServiceModes(t, func(t *testing.T, mode setup) { f(t, newLab(t, nodes, mode)) })
}

// balance gives every node the same Services.
func (l *lab) balance(services ...lb.Service) {
	l.t.Helper()
	for _, n := range l.nodes {
		n.balance(lb.State{Services: services})
	}
}

func (n *node) balance(s lb.State) {
	n.t.Helper()
	n.Do(func() { must(n.t, n.dp.Services().Apply(ctx(n.t), s)) })
}

// ready is a backend that takes connections.
func ready(p *pod, n *node) lb.Backend {
	return lb.Backend{Addr: p.at(port), Node: n.cfg.NodeName, Ready: true, Serving: true}
}

// both are the services' TCP and UDP ports, alike.
func both(services ...lb.Service) (ports []lb.Service) {
	for _, s := range services {
		tcp, udp := s, s
		tcp.Proto, udp.Proto = "tcp", "udp"
		ports = append(ports, tcp, udp)
	}
	return ports
}

// demo is a Service with a ClusterIP.
func demo(backends ...lb.Backend) lb.Service {
	return lb.Service{
		Namespace: "default",
		Name:      "demo",
		Frontends: []lb.Frontend{{Kind: lb.ClusterIP, Addr: clusterIP, Port: port}},
		Backends:  backends,
	}
}

// withNodePort is the service on a NodePort too.
func withNodePort(s lb.Service) lb.Service {
	s.Frontends = append(s.Frontends, lb.Frontend{Kind: lb.NodePort, Port: nodePort})
	return s
}

// sign makes servers that answer everything with the name of their namespace.
func sign(t *testing.T, hosts ...*netnstest.NS) {
	t.Helper()
	signAt(t, anyPort, hosts...)
}

// signAt is sign at one address and port.
func signAt(t *testing.T, at netip.AddrPort, hosts ...*netnstest.NS) {
	t.Helper()
	for _, h := range hosts {
		h.Do(func() {
			l, err := net.Listen("tcp4", at.String())
			must(t, err)
			c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
			must(t, err)
			t.Cleanup(func() { l.Close(); c.Close() })
			go signTCP(l, h.Name)
			go signUDP(c, h.Name)
		})
	}
}

// acceptAll serves each connection to a network namespace as handle says, and ends it then.
func acceptAll(t *testing.T, on *netnstest.NS, handle func(net.Conn)) {
	t.Helper()
	on.Do(func() {
		l, err := net.Listen("tcp4", anyPort.String())
		must(t, err)
		t.Cleanup(func() { l.Close() })
		go accept(l, handle)
	})
}

// accept serves each connection to a listener, until that is closed.
func accept(l net.Listener, handle func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			handle(c)
		}()
	}
}

func signTCP(l net.Listener, name string) {
	accept(l, func(c net.Conn) {
		buf := make([]byte, 64)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			c.Write([]byte(name))
		}
	})
}

func signUDP(c *net.UDPConn, name string) {
	buf := make([]byte, 64)
	for {
		size, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if string(buf[:size]) != "?" { // or two of them that are led to each other would never end
			continue
		}
		c.WriteToUDPAddrPort([]byte(name), from)
	}
}

// who says whose signature a connection gets.
func who(c net.Conn) (string, error) {
	buf := make([]byte, 64)
	c.SetDeadline(time.Now().Add(netnstest.ProbeTimeout))
	if _, err := c.Write([]byte("?")); err != nil {
		return "", err
	}
	n, err := c.Read(buf)
	return string(buf[:n]), err
}

// whoAt asks over a new connection.
func whoAt(t *testing.T, from *netnstest.NS, network string, to netip.AddrPort) (string, error) {
	t.Helper()
	c, err := from.Dial(network, to)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return who(c)
}

// census asks over n new connections and counts the answers by who gave them.
func census(t *testing.T, from *netnstest.NS, network string, to netip.AddrPort, n int) map[string]int {
	t.Helper()
	found := map[string]int{}
	for range n {
		name, err := whoAt(t, from, network, to)
		if err != nil {
			name = fmt.Sprint(err)
		}
		found[name]++
	}
	return found
}
