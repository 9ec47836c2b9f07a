package datapath_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/netnstest"
)

// What holds of Services holds of those whose backends, or clients, are reached by a tunnel, in one lab for each mode. The
// programs do not know by which protocol.
func TestTunnelServices(t *testing.T) {
	netnstest.Needs(t, vxlan.needs)
	inServiceModes(t, func(t *testing.T, mode setup) {
		l := newRoutedLab(t, 3, mode, vxlan.between)
		for _, test := range []struct {
			name string
			run  func(*testing.T, *lab)
		}{
			{"ClusterIP", testClusterIP},
			{"NodePort", testNodePort},
			{"sockets", testSocketsAreGivenABackend},
			{"backend in the nodes' network", testBackendInTheNodesNetwork},
			{"backend outside", testBackendOutside},
			{"local policies", testLocalPolicies},
			{"external policy", testExternalLocalKeepsTheClientsAddress},
			{"affinity", testAffinityAcrossNodes},
			{"a port again", testPortIsUsedAgain},
			{"errors to clients", testErrorsFindTheClient},
			{"errors to backends", testErrorsFindTheBackend},
			{"last hops", testTimeExceededToAService},
			{"what may be cut up", testNodePortCutsUpForTheTunnel},
			{"what may not", testNodePortTellsOfTheTunnel},
		} {
			t.Run(test.name, func(t *testing.T) { test.run(t, l) })
		}
	})
	t.Run("kubeproxy", func(t *testing.T) {
		l := newRoutedLab(t, 2, kubeProxy, vxlan.between)
		t.Run("ClusterIP", func(t *testing.T) { testServiceRules(t, l) })
		t.Run("NodePort", func(t *testing.T) { testNodePortRules(t, l) })
	})
}

// A client that has been given one of the backends, of which each is on another node, is given it again.
func testAffinityAcrossNodes(t *testing.T, l *lab) {
	client := l.nodes[0].addPod("client")
	var backends []lb.Backend
	for _, n := range l.nodes {
		p := n.addPod("backend")
		sign(t, p.NS)
		backends = append(backends, ready(p, n))
	}
	s := withNodePort(demo(backends...))
	s.Affinity = time.Hour
	l.balance(both(s)...)
	for from, to := range map[*netnstest.NS]netip.AddrPort{
		client.NS:    netip.AddrPortFrom(clusterIP, port),
		l.outside.NS: netip.AddrPortFrom(l.nodes[1].Host.Addr, nodePort),
	} {
		if found := census(t, from, "tcp4", to, 20); len(found) != 1 || found[""] > 0 {
			t.Errorf("from %s: %v", from.Name, found)
		}
	}
	s.Affinity = 0
	l.balance(both(s)...)
	if found := census(t, client.NS, "tcp4", netip.AddrPortFrom(clusterIP, port), 60); len(found) != len(backends) {
		t.Errorf("without affinity one client is answered by %v", found)
	}
}

// A backend outside the cluster sees the node of the pod that asks for it.
func testBackendOutside(t *testing.T, l *lab) {
	n := l.nodes[0]
	a := n.addPod("a")
	const other = port + 1
	at := netip.AddrPortFrom(l.outside.Addr, other)
	l.outside.ServeTCP(at)
	l.outside.ServeUDP(at)
	l.balance(both(demo(lb.Backend{Addr: at, Ready: true}))...)
	asks{a.NS, clusterIP, n.Host.Addr}.check(t)
	asks{a.NS, l.outside.Addr, n.Host.Addr}.checkAt(t, other)
}

// A datagram that may be cut up is, where the tunnel is too narrow for it: by the node that was asked, and by the backend.
func testNodePortCutsUpForTheTunnel(t *testing.T, l *lab) {
	n, m := l.nodes[0], l.nodes[1]
	far := m.addPod("far")
	l.balance(both(withNodePort(demo(ready(far, m))))...)
	server := listenUDP(t, far.NS, anyPort)
	dialed, err := l.outside.Dial("udp4", netip.AddrPortFrom(n.Host.Addr, nodePort))
	must(t, err)
	client := dialed.(*net.UDPConn)
	defer client.Close()
	for _, c := range []*net.UDPConn{client, server} {
		setMTUDiscovery(t, c, unix.IP_PMTUDISC_DONT)
		must(t, c.SetDeadline(time.Now().Add(10*netnstest.ProbeTimeout)))
	}
	thereAndBack(t, client, server, 100, 1450-28, 1450-27, 1472, 4000)
}

// Who may not be cut up is told how much fits, by the node that was asked and from its address.
func testNodePortTellsOfTheTunnel(t *testing.T, l *lab) {
	n, m := l.nodes[0], l.nodes[1]
	far := m.addPod("far")
	l.balance(both(withNodePort(demo(ready(far, m))))...)
	listenUDP(t, far.NS, anyPort)
	l.outside.Run("ip", "route", "flush", "cache")
	dialed, err := l.outside.Dial("udp4", netip.AddrPortFrom(n.Host.Addr, nodePort))
	must(t, err)
	client := dialed.(*net.UDPConn)
	defer client.Close()
	dontFragment(t, client)
	heard := l.outside.Capture(netnstest.NIC)
	must(t, second(client.Write(make([]byte, 1450-27))))
	at := netip.MustParseAddrPort(client.LocalAddr().String())
	awaitFrame(t, heard, "an error about what is too large", func(f netnstest.Frame) bool {
		return isErrorAbout(f, at, netip.AddrPortFrom(n.Host.Addr, nodePort))
	})
	if route := l.outside.Run("ip", "route", "get", n.Host.Addr.String()); !strings.Contains(route, "mtu 1450") {
		t.Errorf("the client's route is %q", route)
	}
}

// nodePortRules are what kube-proxy makes of a NodePort, as far as packets go: translate, and masquerade what comes from
// outside.
func nodePortRules(n *node, backend netip.AddrPort) {
	n.t.Helper()
	for _, proto := range []string{"tcp", "udp"} {
		to := fmt.Sprintf("-p %s -d %s --dport %d", proto, n.Host.Addr, nodePort)
		for _, rule := range []string{
			"PREROUTING " + to + " -j MARK --set-xmark 0x4000/0x4000",
			"PREROUTING " + to + " -j DNAT --to-destination " + backend.String(),
		} {
			n.Run(append([]string{"iptables", "-t", "nat", "-A"}, strings.Fields(rule)...)...)
		}
	}
	n.Run("iptables", "-t", "nat", "-A", "POSTROUTING", "-m", "mark", "--mark", "0x4000/0x4000", "-j", "MASQUERADE")
}

func testNodePortRules(t *testing.T, l *lab) {
	n, m := l.nodes[0], l.nodes[1]
	c, b := m.addPod("c"), n.addPod("b")
	serve(b.NS)
	for _, node := range l.nodes {
		nodePortRules(node, b.at(port))
	}
	for name, conversation := range map[string]asks{
		"outside, through the backend's node":   {l.outside.NS, n.Host.Addr, n.cfg.Router()},
		"outside, through another node":         {l.outside.NS, m.Host.Addr, m.cfg.Router()},
		"a pod elsewhere, through its own node": {c.NS, m.Host.Addr, m.cfg.Router()},
	} {
		t.Run(name, func(t *testing.T) { conversation.checkAt(t, nodePort) })
	}
}
