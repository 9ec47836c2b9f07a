package prober

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/verify/probe"
)

// framed serializes headers into a frame.
func framed(t *testing.T, headers ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, headers...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// datagram is a frame with a datagram in it.
func datagram(t *testing.T, mac byte, src, dst string, ttl uint8, sport, dport uint16, payload []byte) []byte {
	t.Helper()
	return framed(t,
		&layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, mac}, DstMAC: []byte{2, 0, 0, 0, 0, mac + 1}, EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, TTL: ttl, Protocol: layers.IPProtocolUDP, SrcIP: netip.MustParseAddr(src).AsSlice(), DstIP: netip.MustParseAddr(dst).AsSlice()},
		&layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport), Checksum: 7}, gopacket.Payload(payload))
}

// Who asks for a tunnel's packets gets what they carry, and else a datagram whose port is a tunnel's is what it is.
func TestDecodeTunnels(t *testing.T) {
	carried := datagram(t, 1, "10.0.1.2", "10.0.2.3", 64, 1000, 2000, []byte("hello"))
	vxlan, geneve := append([]byte{8, 0, 0, 0, 0, 1, 44, 0}, carried...), append([]byte{0, 0, 0x65, 0x58, 0, 1, 44, 0}, carried...)
	at := &unix.SockaddrLinklayer{Hatype: unix.ARPHRD_ETHER, Pkttype: unix.PACKET_OUTGOING}
	for name, tt := range map[string]struct {
		payload []byte
		port    uint16
		tunnel  *probe.Tunnel
		inner   bool
	}{
		"VXLAN":                        {vxlan, 8472, &probe.Tunnel{Protocol: probe.VXLAN, Port: 8472}, true},
		"VXLAN, at the usual port":     {vxlan, 4789, &probe.Tunnel{Protocol: probe.VXLAN, Port: 4789}, true},
		"Geneve":                       {geneve, 6081, &probe.Tunnel{Protocol: probe.Geneve, Port: 6081}, true},
		"Geneve, at another port":      {geneve, 6000, &probe.Tunnel{Protocol: probe.Geneve, Port: 6000}, true},
		"VXLAN that is not asked for":  {vxlan, 4789, nil, false},
		"Geneve that is not asked for": {geneve, 6081, nil, false},
		"another port":                 {vxlan, 8473, &probe.Tunnel{Protocol: probe.VXLAN, Port: 8472}, false},
		"no network's number":          {append([]byte{0}, vxlan[1:]...), 8472, &probe.Tunnel{Protocol: probe.VXLAN, Port: 8472}, false},
		"short":                        {vxlan[:7], 8472, &probe.Tunnel{Protocol: probe.VXLAN, Port: 8472}, false},
	} {
		t.Run(name, func(t *testing.T) {
			frame := datagram(t, 5, "172.18.0.2", "172.18.0.3", 63, 50000, tt.port, tt.payload)
			got := decode(frame, at, tt.tunnel)
			outer := got
			if tt.inner {
				if got.Outer == nil {
					t.Fatalf("%+v", got)
				}
				outer = got.Outer.Packet
				if got.Source.String() != "10.0.1.2" || got.Destination.String() != "10.0.2.3" || got.TTL != 64 || got.SourcePort != 1000 || got.DestinationPort != 2000 ||
					got.Payload != "hello" || got.Length != len(carried) || got.SourceMAC != "02:00:00:00:00:01" || got.Direction != probe.Out || outer.Payload != "" {
					t.Errorf("inner: %+v", got)
				}
				if got.Outer.Network != 300 || got.Outer.Checksum != 7 {
					t.Errorf("outer: %+v", got.Outer)
				}
			} else if got.Outer != nil || got.Payload == "" {
				t.Errorf("%+v", got)
			}
			if outer.Source.String() != "172.18.0.2" || outer.Destination.String() != "172.18.0.3" || outer.TTL != 63 || outer.SourcePort != 50000 || outer.DestinationPort != tt.port ||
				outer.Protocol != "udp" || outer.Length != len(frame) || outer.SourceMAC != "02:00:00:00:00:05" || outer.Direction != probe.Out {
				t.Errorf("outer: %+v", outer)
			}
		})
	}
}
