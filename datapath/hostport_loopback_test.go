package datapath_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/netnstest"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// TestHostPortsOnLoopback holds that the node's processes reach host ports on a loopback address where the node's
// stack carries them, from each source address that they can have.
func TestHostPortsOnLoopback(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	b, c := n.addPod("b"), n.addPod("c")
	sign(t, b.NS, c.NS)
	n.hostPortsOnLoopback(b, c)
	other := netip.MustParseAddr("127.0.0.2")
	for _, step := range []struct {
		to   netip.Addr
		port uint16
		from netip.Addr
		want string // "": nobody
	}{
		{loopback, 9000, loopback, b.NS.Name},
		{loopback, 9000, n.Host.Addr, b.NS.Name},
		{n.Host.Addr, 9000, n.Host.Addr, c.NS.Name},
		{n.Host.Addr, 9000, loopback, c.NS.Name},
		{loopback, 9001, loopback, c.NS.Name},
		{other, 9001, loopback, c.NS.Name},
		{other, 9001, n.Host.Addr, c.NS.Name},
		{other, 9000, loopback, ""},
	} {
		for _, network := range []string{"tcp4", "udp4"} {
			got, err := whoAtFrom(n.NS, network, step.from, netip.AddrPortFrom(step.to, step.port))
			if got != step.want || (err == nil) != (step.want != "") {
				t.Errorf("%s from %s to %s:%d: %q, %v, want %q", network, step.from, step.to, step.port, got, err, step.want)
			}
		}
	}
}

// hostPortsOnLoopback puts port 9000 of 127.0.0.1 to b, that of the node's address to c, and 9001 of every address
// to c.
func (n *node) hostPortsOnLoopback(b, c *pod) {
	n.t.Helper()
	var ports []lb.HostPort
	for _, proto := range []string{"tcp", "udp"} {
		ports = append(ports,
			lb.HostPort{Proto: proto, HostIP: loopback, Port: 9000, Backend: b.at(port)},
			lb.HostPort{Proto: proto, HostIP: n.Host.Addr, Port: 9000, Backend: c.at(port)},
			lb.HostPort{Proto: proto, Port: 9001, Backend: c.at(port)})
	}
	if skipped := n.setHostPorts(ports); len(skipped) > 0 {
		n.t.Fatalf("left out: %v", skipped)
	}
}

// whoAtFrom is whoAt from a given address.
func whoAtFrom(from *netnstest.NS, network string, addr netip.Addr, to netip.AddrPort) (answer string, err error) {
	d := net.Dialer{Timeout: netnstest.ProbeTimeout, LocalAddr: &net.TCPAddr{IP: addr.AsSlice()}}
	if network == "udp4" {
		d.LocalAddr = &net.UDPAddr{IP: addr.AsSlice()}
	}
	var c net.Conn
	from.Do(func() { c, err = d.Dial(network, to.String()) })
	if err != nil {
		return "", err
	}
	defer c.Close()
	return who(c)
}

// TestLoopbackIsTheNodesAlone holds that what makes host ports answer on loopback lets nobody else in, by them or to
// what listens there, also where kube-proxy has opened all devices for its NodePorts.
func TestLoopbackIsTheNodesAlone(t *testing.T) {
	l := newLab(t, 1)
	n := l.nodes[0]
	n.Sysctl("net/ipv4/conf/all/route_localnet", "1")
	a, b, c := n.addPod("a"), n.addPod("b"), n.addPod("c")
	n.hostPortsOnLoopback(b, c)
	heard := []*netnstest.Capture{b.Capture("eth0"), c.Capture("eth0")}
	own := listenUDP(t, n.NS, netip.AddrPortFrom(loopback, 9002))
	outside, pod := l.outside.Capture("eth0"), a.Capture("eth0")
	fromOutside := func(to netip.Addr, p uint16, payload string) {
		outside.Inject(datagram(t, macOf(t, l.outside.NS, "eth0"), macOf(t, n.NS, "eth0"), l.outside.Addr, netip.AddrPortFrom(to, p), payload))
	}
	fromPod := func(to netip.Addr, p uint16, payload string) {
		pod.Inject(datagram(t, a.PodMAC[:], a.HostMAC[:], a.Addr, netip.AddrPortFrom(to, p), payload))
	}
	before := n.packets("loopback", datapath.FromPod)
	for _, p := range []uint16{9000, 9001} {
		fromOutside(loopback, p, "stray")
		fromPod(loopback, p, "stray")
	}
	fromPod(loopback, 9002, "stray")
	// What follows them does arrive.
	fromOutside(n.Host.Addr, 9001, "from outside")
	fromPod(n.Host.Addr, 9001, "from a pod")
	payloads := map[string]int{}
	eventually(t, func() bool {
		for _, capture := range heard {
			for _, f := range capture.Frames() {
				if app := f.ApplicationLayer(); app != nil && !f.Outgoing {
					payloads[string(app.Payload())]++
				}
			}
		}
		return payloads["from outside"] == 1 && payloads["from a pod"] == 1
	}, "the host port on the node's address is reached from outside and from a pod")
	if payloads["stray"] != 0 {
		t.Errorf("host ports on loopback were reached from elsewhere: %v", payloads)
	}
	if got := n.packets("loopback", datapath.FromPod) - before; got != 3 {
		t.Errorf("%d packets of a pod to loopback were dropped, want 3", got)
	}
	conn, err := n.Dial("udp4", netip.AddrPortFrom(loopback, 9002))
	must(t, err)
	defer conn.Close()
	must(t, second(conn.Write([]byte("from the node"))))
	buf := make([]byte, 64)
	size, _, err := own.ReadFromUDPAddrPort(buf)
	must(t, err)
	if got := string(buf[:size]); got != "from the node" {
		t.Errorf("what listens on the node's loopback got %q of a pod", got)
	}
}

func macOf(t *testing.T, ns *netnstest.NS, device string) net.HardwareAddr {
	t.Helper()
	l, err := ns.Netlink().LinkByName(device)
	must(t, err)
	return l.Attrs().HardwareAddr
}

// datagram is a frame of a UDP datagram from port 4321.
func datagram(t *testing.T, srcMAC, dstMAC net.HardwareAddr, src netip.Addr, dst netip.AddrPort, payload string) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: src.AsSlice(), DstIP: dst.Addr().AsSlice()}
	udp := &layers.UDP{SrcPort: 4321, DstPort: layers.UDPPort(dst.Port())}
	must(t, udp.SetNetworkLayerForChecksum(ip))
	return frame(t, &layers.Ethernet{SrcMAC: srcMAC, DstMAC: dstMAC, EthernetType: layers.EthernetTypeIPv4}, ip, udp, gopacket.Payload(payload))
}
