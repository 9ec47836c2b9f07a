package datapath_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/netnstest"
)

// setHostPorts gives the node host ports and Services in the way of its mode, and returns what it leaves out.
func (n *node) setHostPorts(ports []lb.HostPort, services ...lb.Service) (leftOut []api.LeftOut) {
	n.t.Helper()
	if !n.cfg.KubeProxyReplacement {
		n.Do(func() { must(n.t, n.dp.HostPorts().Apply(ctx(n.t), ports)) })
		return n.dp.HostPorts().LeftOut()
	}
	n.balance(lb.State{Services: services, HostPorts: ports})
	return n.dp.Services().LeftOut()
}

// TestHostPortsTakeNobodysAddress holds that a pod whose host port names an address that is not the node's gets
// nothing that others send there, from wherever, and that it is said. Once the node has the address, the port is
// on it.
func TestHostPortsTakeNobodysAddress(t *testing.T) { inModes(t, testHostPortsTakeNobodysAddress) }

func testHostPortsTakeNobodysAddress(t *testing.T, mode setup) {
	l := newLab(t, 2, mode)
	n, m := l.nodes[0], l.nodes[1]
	victim, evil, remote := n.addPod("victim"), n.addPod("evil"), m.addPod("remote")
	later := netip.MustParseAddr("192.0.2.200")
	sign(t, evil.NS, l.outside.NS, m.NS, remote.NS, n.NS)
	foreign := []netip.Addr{l.outside.Addr, m.Host.Addr, remote.Addr, clusterIP, later, netip.MustParseAddr("192.0.2.255"),
		netip.MustParseAddr("224.0.0.1"), netip.MustParseAddr("255.255.255.255")}
	var ports []lb.HostPort
	for _, a := range foreign {
		for _, proto := range []string{"tcp", "udp"} {
			ports = append(ports, lb.HostPort{Proto: proto, HostIP: a, Port: port, Backend: evil.at(port), Namespace: "default", Name: "evil"})
		}
	}
	leftOut := n.setHostPorts(ports)
	if len(leftOut) != len(ports) {
		t.Errorf("%d of %d host ports were left out: %v", len(leftOut), len(ports), leftOut)
	}
	for _, s := range leftOut {
		if s.Reason != lb.NotNodeAddress || s.Kind != api.LeftOutPod || s.Namespace+"/"+s.Name != "default/evil" || !strings.Contains(s.Message, "8080") {
			t.Errorf("left out: %+v", s)
		}
	}
	for to, want := range map[netip.Addr]string{l.outside.Addr: l.outside.NS.Name, m.Host.Addr: m.NS.Name, remote.Addr: remote.NS.Name} {
		for _, network := range []string{"tcp4", "udp4"} {
			for _, from := range []*netnstest.NS{victim.NS, n.NS, evil.NS} {
				if got, err := whoAt(t, from, network, netip.AddrPortFrom(to, port)); err != nil || got != want {
					t.Errorf("%s from %s to %s: %q, %v, want %s", network, from.Name, to, got, err, want)
				}
			}
		}
		if !n.cfg.KubeProxyReplacement {
			continue
		}
		for _, from := range []*netnstest.NS{victim.NS, n.NS} { // at sockets
			if got := n.inCgroup(from, conversation{Network: "tcp", To: []netip.AddrPort{netip.AddrPortFrom(to, port)}})[0]; got.Answer != want {
				t.Errorf("a socket of %s to %s: %+v, want %s", from.Name, to, got, want)
			}
		}
	}

	n.AddAddr(netnstest.NIC, netip.PrefixFrom(later, 32))
	l.reconcileDevices()
	if after := n.setHostPorts(ports); len(after) != len(ports)-2 {
		t.Errorf("the node has the address, and %v is left out", after)
	}
	for _, from := range []*netnstest.NS{victim.NS, l.outside.NS} {
		if got, err := whoAt(t, from, "tcp4", netip.AddrPortFrom(later, port)); err != nil || got != evil.NS.Name {
			t.Errorf("from %s to the node's new address: %q, %v, want %s", from.Name, got, err, evil.NS.Name)
		}
	}
	n.Run("ip", "addr", "del", later.String()+"/32", "dev", netnstest.NIC)
	l.outside.AddAddr(netnstest.NIC, netip.PrefixFrom(later, 32))
	n.setHostPorts(ports)
	if got, err := whoAt(t, victim.NS, "tcp4", netip.AddrPortFrom(later, port)); err != nil || got != l.outside.NS.Name {
		t.Errorf("after the address has moved: %q, %v, want %s", got, err, l.outside.NS.Name)
	}
}

// TestHostPortsOnSeveralAddresses has host ports of one pod that differ in the address alone, and of others beside
// them. A Service beside all of these is carried.
func TestHostPortsOnSeveralAddresses(t *testing.T) { inModes(t, testHostPortsOnSeveralAddresses) }

func testHostPortsOnSeveralAddresses(t *testing.T, mode setup) {
	l := newLab(t, 1, mode)
	n := l.nodes[0]
	a, b, c := n.addPod("a"), n.addPod("b"), n.addPod("c")
	other, third, loopback := netip.MustParseAddr("192.0.2.200"), netip.MustParseAddr("192.0.2.201"), netip.MustParseAddr("127.0.0.1")
	for _, addr := range []netip.Addr{other, third} {
		n.AddAddr(netnstest.NIC, netip.PrefixFrom(addr, 32))
	}
	l.reconcileDevices()
	sign(t, a.NS, b.NS, c.NS)
	at := func(p *pod, addr netip.Addr) lb.HostPort {
		return lb.HostPort{Proto: "tcp", HostIP: addr, Port: 9000, Backend: p.at(port), Namespace: "default", Name: p.spec.Pod}
	}
	ports := []lb.HostPort{at(b, n.Host.Addr), at(b, other), at(b, loopback), at(c, netip.Addr{}), at(c, netip.IPv4Unspecified())}
	for range 2 {
		leftOut := n.setHostPorts(ports, both(demo(ready(a, n)))...)
		leftOut = slices.DeleteFunc(leftOut, func(s api.LeftOut) bool { return s.Reason == lb.AddressTaken && s.Name == "c" })
		if len(leftOut) > 0 {
			t.Errorf("left out: %v", leftOut)
		}
		slices.Reverse(ports)
	}
	for addr, want := range map[netip.Addr]*pod{n.Host.Addr: b, other: b, third: c} {
		for _, from := range []*netnstest.NS{l.outside.NS, a.NS} {
			if got, err := whoAt(t, from, "tcp4", netip.AddrPortFrom(addr, 9000)); err != nil || got != want.NS.Name {
				t.Errorf("from %s to %s: %q, %v, want %s", from.Name, addr, got, err, want.NS.Name)
			}
		}
	}
	if !n.cfg.KubeProxyReplacement {
		return
	}
	to := []netip.AddrPort{netip.AddrPortFrom(loopback, 9000), netip.AddrPortFrom(other, 9000), netip.AddrPortFrom(third, 9000)}
	for i, got := range n.inCgroup(n.NS, conversation{Network: "tcp", To: to}) {
		if want := []string{b.NS.Name, b.NS.Name, c.NS.Name}[i]; got.Answer != want {
			t.Errorf("the node to %s: %+v, want %s", to[i], got, want)
		}
	}
	if got, err := whoAt(t, c.NS, "tcp4", netip.AddrPortFrom(clusterIP, port)); err != nil || got != a.NS.Name {
		t.Errorf("a Service beside the host ports: %q, %v", got, err)
	}
}

// TestBadObjectsStopNoOthers has one of everything that cannot be carried, beside a Service and a host port that
// can, also when these come later.
func TestBadObjectsStopNoOthers(t *testing.T) { inServiceModes(t, testBadObjectsStopNoOthers) }

func testBadObjectsStopNoOthers(t *testing.T, mode setup) {
	l := newLab(t, 1, mode)
	n := l.nodes[0]
	a, b := n.addPod("a"), n.addPod("b")
	sign(t, b.NS)
	bad := both(demo(ready(b, n)))
	for i := range bad {
		bad[i].Name = "bad"
	}
	sctp, twice, noPort, v6, huge := bad[0], bad[0], bad[0], bad[0], bad[0]
	sctp.Proto = "sctp"
	noPort.Port, noPort.Frontends = "none", []lb.Frontend{{Kind: lb.ClusterIP, Addr: netip.MustParseAddr("10.96.0.11")}}
	v6.Port, v6.Frontends = "v6", []lb.Frontend{{Kind: lb.ClusterIP, Addr: netip.MustParseAddr("fd00::1"), Port: 80}}
	huge.Name, huge.Frontends = "a-huge", []lb.Frontend{{Kind: lb.ClusterIP, Addr: netip.MustParseAddr("10.96.0.12"), Port: 80}}
	for i := range 140000 {
		huge.Backends = append(huge.Backends, lb.Backend{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), uint16(1+i>>16)), Ready: true})
	}
	state := lb.State{
		Services: []lb.Service{huge, sctp, twice, twice, noPort, v6},
		HostPorts: []lb.HostPort{
			{Proto: "tcp", HostIP: l.outside.Addr, Port: 9000, Backend: b.at(port)}, {Proto: "sctp", Port: 9000, Backend: b.at(port)},
			{Proto: "tcp", Backend: b.at(port)}, {Proto: "tcp", Port: 9000, Backend: b.at(0)}, {Proto: "tcp", Port: 9000},
		},
	}
	n.balance(state)
	good := both(withNodePort(demo(ready(b, n))))
	for i := range good {
		good[i].Name = "good"
		good[i].Frontends[0].Addr = netip.MustParseAddr("10.96.0.20")
	}
	state.Services = append(state.Services, good...)
	state.HostPorts = append(state.HostPorts, lb.HostPort{Proto: "tcp", Port: 9000, Backend: b.at(port)})
	n.balance(state)
	for _, to := range []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("10.96.0.20"), port), netip.AddrPortFrom(n.Host.Addr, nodePort), netip.AddrPortFrom(n.Host.Addr, 9000)} {
		if got, err := whoAt(t, a.NS, "tcp4", to); err != nil || got != b.NS.Name {
			t.Errorf("%s: %q, %v", to, got, err)
		}
	}
	count := map[string]int{}
	for _, s := range n.dp.Services().LeftOut() {
		count[s.Reason]++
	}
	for reason, want := range map[string]int{lb.NoRoom: 1, lb.Duplicate: 1, lb.NotNodeAddress: 1, lb.NotCarried: 4, lb.NotValid: 3} {
		if count[reason] != want {
			t.Errorf("%d for %s, want %d", count[reason], reason, want)
		}
	}
	if t.Failed() {
		t.Logf("left out: %v", n.dp.Services().LeftOut())
	}
}
