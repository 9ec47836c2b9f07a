package datapath

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// run gives a client's packet to the program that sees it first.
func (m *model) run(client end, frame []byte) (uint32, []byte) {
	m.t.Helper()
	m.comeFrom(client.Addr())
	switch {
	case slices.Contains(m.local, client.Addr()):
		return m.runOn(m.d.progs.fromPod, m.ifindex(client.Addr()), frame)
	case m.isFar(client.Addr()):
		end := m.tunnelEnd()
		return m.runOn(end.prog, end.ifindex, frame)
	}
	return m.runOn(m.d.progs.services.fromNetwork, m.nic(), frame)
}

func (m *model) runOn(prog *ebpf.Program, ifindex int, frame []byte) (verdict uint32, out []byte) {
	m.t.Helper()
	opts := m.testRun(ifindex, frame)
	opts.DataOut = make([]byte, len(frame)+256)
	m.ns.Do(func() {
		var err error
		verdict, err = prog.Run(opts)
		m.must(err)
	})
	return verdict, opts.DataOut
}

// testRun gives the frame to a program as if the device had it.
func (m *model) testRun(ifindex int, frame []byte) *ebpf.RunOptions {
	m.t.Helper()
	l, err := m.ns.Netlink().LinkByIndex(ifindex)
	m.must(err)
	frame = slices.Clone(frame)
	copy(frame, l.Attrs().HardwareAddr) // or it would be a packet for somebody else
	const ifindexOffset, size = 40, 192 // in struct __sk_buff
	skb := make([]byte, size)
	binary.NativeEndian.PutUint32(skb[ifindexOffset:], uint32(ifindex))
	if m.tunnel != nil {
		m.tunnel.Own(skb)
	}
	return &ebpf.RunOptions{Data: frame, Context: skb}
}

// packet is a TCP segment or UDP datagram with right checksums.
func packet(proto layers.IPProtocol, src, dst end, flags uint8) []byte {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
	parts := []gopacket.SerializableLayer{&layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4}, ip}
	if proto == layers.IPProtocolUDP {
		udp := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
		udp.SetNetworkLayerForChecksum(ip)
		parts = append(parts, udp)
	} else {
		tcp := &layers.TCP{
			SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()), Seq: 1000, Ack: 2000, Window: 512,
			FIN: flags&finFlag != 0, SYN: flags&synFlag != 0, RST: flags&rstFlag != 0, ACK: flags&ackFlag != 0,
		}
		tcp.SetNetworkLayerForChecksum(ip)
		parts = append(parts, tcp)
	}
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opts, append(parts, gopacket.Payload("data"))...); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

// ends are a packet's.
type ends struct {
	src, dst end
	tcp      *layers.TCP
	icmp     *layers.ICMPv4
}

// parse reads a frame and checks its checksums.
func (m *model) parse(frame []byte) (e ends) {
	m.t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if l4, ok := p.TransportLayer().(interface {
		SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
	}); ok {
		m.must(l4.SetNetworkLayerForChecksum(p.NetworkLayer()))
	}
	if err, mismatches := p.VerifyChecksums(); err != nil || len(mismatches) > 0 {
		m.t.Fatalf("checksums: %v, %v in\n%s", err, mismatches, p.Dump())
	}
	ip, ok := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	if !ok {
		m.t.Fatalf("not an IPv4 packet:\n%s", p.Dump())
	}
	src, _ := netip.AddrFromSlice(ip.SrcIP.To4())
	dst, _ := netip.AddrFromSlice(ip.DstIP.To4())
	var sport, dport uint16
	switch l4 := p.TransportLayer().(type) {
	case *layers.TCP:
		sport, dport, e.tcp = uint16(l4.SrcPort), uint16(l4.DstPort), l4
	case *layers.UDP:
		sport, dport = uint16(l4.SrcPort), uint16(l4.DstPort)
	}
	e.icmp, _ = p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	e.src, e.dst = netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)
	return e
}

// checkRefusal expects what a host without a listener would answer.
func (m *model) checkRefusal(name flowName, flags uint8, verdict uint32, out []byte) {
	m.t.Helper()
	if flags&rstFlag != 0 {
		if verdict != actShot {
			m.t.Fatalf("%v: a reset was answered", name)
		}
		return
	}
	if verdict != actRedirect {
		m.t.Fatalf("%v: verdict %d, want an answer", name, int32(verdict))
	}
	got := m.parse(out)
	if got.src.Addr() != name.dst.Addr() || got.dst.Addr() != name.client.Addr() {
		m.t.Fatalf("%v: the refusal goes %v -> %v", name, got.src, got.dst)
	}
	if name.proto == layers.IPProtocolUDP {
		if got.icmp == nil || got.icmp.TypeCode != layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodePort) {
			m.t.Fatalf("%v: the refusal is no port unreachable", name)
		}
		quoted := packet(name.proto, name.client, name.dst, flags)[ethernetHeader:][:28]
		if !slices.Equal(got.icmp.Payload, quoted) {
			m.t.Fatalf("%v: the refusal quotes\n% x, want\n% x", name, got.icmp.Payload, quoted)
		}
		return
	}
	if got.tcp == nil || !got.tcp.RST || got.src != name.dst || got.dst != name.client {
		m.t.Fatalf("%v: the refusal is no reset", name)
	}
	switch { // RFC 9293, 3.10.7.1; the packets are of the client's sequence 1000, acknowledge 2000, with 4 bytes
	case flags&ackFlag != 0 && (got.tcp.ACK || got.tcp.Seq != 2000):
		m.t.Fatalf("%v: the reset of an acknowledging segment has sequence %d", name, got.tcp.Seq)
	case flags&ackFlag == 0 && (!got.tcp.ACK || got.tcp.Ack != 1005 || got.tcp.Seq != 0):
		m.t.Fatalf("%v: the reset of a SYN acknowledges %d", name, got.tcp.Ack)
	}
}
