package dissect

import (
	"net"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

func TestSummary(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	eth := &layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4}
	ip := func(p layers.IPProtocol) *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 63, Protocol: p, SrcIP: net.IP{10, 0, 1, 2}, DstIP: net.IP{10, 0, 1, 3}}
	}
	eth6 := &layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv6}
	ip6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd00::2")}
	echo := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 9, Seq: 1}
	udp := func(port layers.UDPPort) *layers.UDP { return &layers.UDP{SrcPort: 40000, DstPort: port} }
	later := ip(layers.IPProtocolUDP)
	later.FragOffset = 185
	ping := frame(t, eth, ip(layers.IPProtocolICMPv4), echo)
	const pinged = "ICMPv4 10.0.1.2 > 10.0.1.3, TTL 63, 28 bytes: echo request, id 9, seq 1"
	for _, tt := range []struct {
		name string
		data []byte
		raw  bool
		want string
	}{
		{"a ping", ping, false, pinged},
		{"without Ethernet", frame(t, ip(layers.IPProtocolICMPv4), echo), true, pinged},
		{"TCP", frame(t, eth, ip(layers.IPProtocolTCP), &layers.TCP{SrcPort: 40000, DstPort: 80, SYN: true, ACK: true, Seq: 5, Ack: 7}), false, "TCP 10.0.1.2:40000 > 10.0.1.3:80: SYN ACK, seq 5, ack 7, 0 bytes"},
		{"UDP", frame(t, eth, ip(layers.IPProtocolUDP), udp(53), gopacket.Payload("12345")), false, "UDP 10.0.1.2:40000 > 10.0.1.3:53: 5 bytes"},
		{"IPv6", frame(t, eth6, ip6, udp(53)), false, "UDP [fd00::1]:40000 > [fd00::2]:53: 0 bytes"},
		{"IPv6 without Ethernet", frame(t, ip6, udp(53)), true, "UDP [fd00::1]:40000 > [fd00::2]:53: 0 bytes"},
		{"a later fragment", frame(t, eth, later, gopacket.Payload("12345678")), false, "UDP 10.0.1.2 > 10.0.1.3, TTL 63, 28 bytes, fragment from byte 1480 on"},
		{"in VXLAN", frame(t, eth, ip(layers.IPProtocolUDP), udp(vxlanPort), &layers.VXLAN{ValidIDFlag: true, VNI: 20034}, gopacket.Payload(ping)), false, "VXLAN 10.0.1.2 > 10.0.1.3, VNI 20034: " + pinged},
		{"in Geneve", frame(t, eth, ip(layers.IPProtocolUDP), udp(genevePort), &layers.Geneve{Protocol: layers.EthernetTypeTransparentEthernetBridging, VNI: 20034}, gopacket.Payload(ping)), false, "Geneve 10.0.1.2 > 10.0.1.3, VNI 20034: " + pinged},
		{"no tunnel's header", frame(t, eth, ip(layers.IPProtocolUDP), udp(vxlanPort), gopacket.Payload("1")), false, "UDP 10.0.1.2 > 10.0.1.3"},
		{"another protocol", frame(t, eth, ip(layers.IPProtocolGRE)), false, "GRE 10.0.1.2 > 10.0.1.3, TTL 63, 20 bytes"},
		{"ARP", frame(t, &layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: layers.EthernetTypeARP}, &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
			SourceHwAddress: mac, SourceProtAddress: []byte{10, 0, 1, 2}, DstHwAddress: mac, DstProtAddress: []byte{10, 0, 1, 1},
		}), false, "ARP who has 10.0.1.1, asks 10.0.1.2"},
		{"nothing", nil, false, "0 bytes"},
		{"half a header", ping[:10], true, "10 bytes"},
	} {
		if got := Summary(tt.data, tt.raw); got != tt.want {
			t.Errorf("%s: %s\nwant %s", tt.name, got, tt.want)
		}
	}
}
