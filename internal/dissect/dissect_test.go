package dissect

import (
	"net"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

func frame(t *testing.T, all ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, all...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFrame(t *testing.T) {
	mac := func(last byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, last} }
	eth := &layers.Ethernet{SrcMAC: mac(1), DstMAC: mac(2), EthernetType: layers.EthernetTypeIPv4}
	ip := func(p layers.IPProtocol, last byte) *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 63, Id: 7, Protocol: p, SrcIP: net.IP{10, 0, 1, last}, DstIP: net.IP{10, 0, 1, 3}}
	}
	echo := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 9, Seq: 1}
	ping := frame(t, eth, ip(layers.IPProtocolICMPv4, 2), echo, gopacket.Payload(make([]byte, 56)))
	pinged := []string{
		"Ethernet  02:00:00:00:00:01 > 02:00:00:00:00:02, IPv4",
		"IPv4      10.0.1.2 > 10.0.1.3, TTL 63, 84 bytes, id 7",
		"ICMP      echo request, id 9, seq 1",
		"Payload   56 bytes",
	}
	outer := func(port layers.UDPPort, below gopacket.SerializableLayer) []byte {
		return frame(t, eth, ip(layers.IPProtocolUDP, 9), &layers.UDP{SrcPort: 40000, DstPort: port}, below, gopacket.Payload(ping))
	}
	wrapped := func(name, udp string) []string {
		return append([]string{pinged[0], "IPv4      10.0.1.9 > 10.0.1.3, TTL 63, 134 bytes, id 7", udp, name}, pinged...)
	}
	for _, tt := range []struct {
		name  string
		frame []byte
		want  []string
	}{
		{"a ping", ping, pinged},
		{"cut off", ping[:60], append(pinged[:3:3], "Payload   18 bytes")},
		{"in VXLAN", outer(vxlanPort, &layers.VXLAN{ValidIDFlag: true, VNI: 20034}), wrapped("VXLAN     VNI 20034", "UDP       40000 > 8472, 114 bytes, no checksum")},
		{"in Geneve", outer(genevePort, &layers.Geneve{Protocol: layers.EthernetTypeTransparentEthernetBridging, VNI: 20034}), wrapped("Geneve    VNI 20034", "UDP       40000 > 6081, 114 bytes, no checksum")},
		{"TCP", frame(t, eth, ip(layers.IPProtocolTCP, 2), &layers.TCP{SrcPort: 40000, DstPort: 80, SYN: true, Seq: 5, Window: 100}), []string{
			pinged[0], "IPv4      10.0.1.2 > 10.0.1.3, TTL 63, 40 bytes, id 7", "TCP       40000 > 80, SYN, seq 5, window 100, 0 bytes",
		}},
		{"ARP", frame(t, &layers.Ethernet{SrcMAC: mac(1), DstMAC: mac(2), EthernetType: layers.EthernetTypeARP}, &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
			SourceHwAddress: mac(1), SourceProtAddress: []byte{10, 0, 1, 2}, DstHwAddress: mac(0), DstProtAddress: []byte{10, 0, 1, 1},
		}), []string{"Ethernet  02:00:00:00:00:01 > 02:00:00:00:00:02, ARP", "ARP       who has 10.0.1.1, asks 10.0.1.2", "Payload   18 bytes"}},
		{"nothing", nil, nil},
		{"half a header", ping[:10], nil},
	} {
		if got := Frame(tt.frame); strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
		}
	}
}
