package datapath_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/netnstest"
)

// claim is an ICMP error "port unreachable" about a UDP datagram, as somebody tells it to somebody.
type claim struct {
	by     *netnstest.NS
	to     netip.Addr
	quoted [2]netip.AddrPort // source and destination
}

func (e claim) send(t *testing.T) {
	t.Helper()
	message := append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, datagramHeader(e.quoted[0], e.quoted[1])...)
	binary.BigEndian.PutUint16(message[2:], ^sum(message))
	e.by.Do(func() {
		raw, err := net.ListenPacket("ip4:icmp", "0.0.0.0")
		must(t, err)
		defer raw.Close()
		must(t, second(raw.WriteTo(message, &net.IPAddr{IP: e.to.AsSlice()})))
	})
}

// datagramHeader is what a router quotes of an empty datagram.
func datagramHeader(src, dst netip.AddrPort) []byte {
	q := make([]byte, 28)
	q[0], q[8], q[9] = 0x45, 63, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(q[2:], 28)
	copy(q[12:], src.Addr().AsSlice())
	copy(q[16:], dst.Addr().AsSlice())
	binary.BigEndian.PutUint16(q[20:], src.Port())
	binary.BigEndian.PutUint16(q[22:], dst.Port())
	binary.BigEndian.PutUint16(q[24:], 8)
	binary.BigEndian.PutUint16(q[10:], ^sum(q[:20]))
	return q
}

func isPortUnreachable(f netnstest.Frame) bool {
	icmp, ok := f.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	return ok && icmp.TypeCode == layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodePort)
}

// A pod tells of datagrams that it never got: nobody hears of it, whatever it says and to whom. Who did get
// them is heard.
func TestPodsTellOfTheirOwnFlowsOnly(t *testing.T) {
	inServiceModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 2, mode)
		n, m := l.nodes[0], l.nodes[1]
		x, y, b, far := n.addPod("x"), n.addPod("y"), n.addPod("b"), m.addPod("far")
		service := netip.AddrPortFrom(clusterIP, port)
		nowhere := netip.MustParseAddr("198.51.100.77")
		bpfMasquerades := n.dp.Config().BPF.Masquerade
		for name, backend := range map[string]struct {
			*pod
			node *node
		}{"beside": {b, n}, "on another node": {far, m}} {
			l.balance(both(demo(ready(backend.pod, backend.node)))...)
			server := listenUDP(t, backend.NS, anyPort)
			client, err := y.Dial("udp4", service)
			must(t, err)
			must(t, second(client.Write([]byte("hello"))))
			must(t, second(server.Read(make([]byte, 16))))
			at := netip.MustParseAddrPort(client.LocalAddr().String())
			for what, test := range map[string]struct {
				false, true claim
				heard       *netnstest.NS
			}{
				"to the backend, of its answers": {
					claim{x.NS, clusterIP, [2]netip.AddrPort{service, at}}, claim{y.NS, clusterIP, [2]netip.AddrPort{service, at}}, backend.NS},
				"to nobody, of the backend's answers": {
					claim{x.NS, nowhere, [2]netip.AddrPort{service, at}}, claim{y.NS, clusterIP, [2]netip.AddrPort{service, at}}, backend.NS},
				"to the client, of its requests": {
					claim{x.NS, y.Addr, [2]netip.AddrPort{at, backend.at(port)}}, claim{backend.NS, y.Addr, [2]netip.AddrPort{at, backend.at(port)}}, y.NS},
			} {
				t.Run(name+"/"+what, func(t *testing.T) {
					expectUnheard(t, n, test.false, test.true, test.heard, "eth0")
				})
			}
			client.Close()
			server.Close()
		}
		if !bpfMasquerades {
			return // iptables does
		}
		server := listenUDP(t, l.outside.NS, anyPort)
		outside := netip.AddrPortFrom(l.outside.Addr, port)
		client, err := y.Dial("udp4", outside)
		must(t, err)
		must(t, second(client.Write([]byte("hello"))))
		must(t, second(server.Read(make([]byte, 16))))
		about := [2]netip.AddrPort{outside, netip.MustParseAddrPort(client.LocalAddr().String())}
		for what, to := range map[string]netip.Addr{"the server": l.outside.Addr, "nobody": nowhere} {
			t.Run("outside/to "+what, func(t *testing.T) {
				expectUnheard(t, n, claim{x.NS, to, about}, claim{y.NS, l.outside.Addr, about}, l.outside.NS, netnstest.NIC)
			})
		}
	})
}

// expectUnheard has something false claim on the node, and then what is true: only that is heard.
func expectUnheard(t *testing.T, n *node, wrong, right claim, by *netnstest.NS, device string) {
	t.Helper()
	const reason = "foreign-error"
	heard, before := by.Capture(device), n.packets(reason, datapath.FromPod)
	wrong.send(t)
	eventually(t, func() bool { return n.packets(reason, datapath.FromPod) == before+1 }, "what is false is counted")
	for _, f := range heard.Frames() {
		if isPortUnreachable(f) {
			t.Errorf("what is false is heard: %s", f)
		}
	}
	right.send(t)
	awaitFrame(t, heard, "what is true", func(f netnstest.Frame) bool { return isPortUnreachable(f) && !f.Outgoing })
	if now := n.packets(reason, datapath.FromPod); now != before+1 {
		t.Errorf("%d are counted, want 1", now-before)
	}
}

// From outside, any router on the way may tell of a packet, but only to who sent it.
func TestRoutersTellTheSender(t *testing.T) {
	inMasqueradeModes(t, func(t *testing.T, mode setup) {
		l := newLab(t, 1, mode)
		n := l.nodes[0]
		other := netip.MustParseAddr("192.0.2.222")
		n.AddAddr(netnstest.NIC, netip.PrefixFrom(other, 32))
		y := n.addPod("y")
		unused := netip.MustParseAddrPort("203.0.113.7:53") // where the outside host is only a router
		client, err := y.Dial("udp4", unused)
		must(t, err)
		defer client.Close()
		out := l.outside.Capture(netnstest.NIC)
		must(t, second(client.Write([]byte("hello"))))
		var as netip.AddrPort
		awaitFrame(t, out, "the datagram leaves", func(f netnstest.Frame) bool {
			udp, ok := f.Layer(layers.LayerTypeUDP).(*layers.UDP)
			if ok && udp.DstPort == 53 {
				src, _ := netip.AddrFromSlice(f.NetworkLayer().NetworkFlow().Src().Raw())
				as = netip.AddrPortFrom(src, uint16(udp.SrcPort))
			}
			return as.IsValid()
		})
		in := y.Capture("eth0")
		about := [2]netip.AddrPort{as, unused}
		claim{l.outside.NS, other, about}.send(t)
		claim{l.outside.NS, n.Host.Addr, about}.send(t)
		var heard []netnstest.Frame
		eventually(t, func() bool {
			heard = append(heard, in.Frames()...)
			return slices.ContainsFunc(heard, func(f netnstest.Frame) bool { return isPortUnreachable(f) })
		}, "the error to the sender")
		heard = slices.DeleteFunc(heard, func(f netnstest.Frame) bool { return !isPortUnreachable(f) })
		if len(heard) != 1 {
			t.Errorf("%d errors are heard, want the one that went to the sender", len(heard))
		}
	})
}
