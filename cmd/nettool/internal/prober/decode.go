package prober

import (
	"net/netip"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/verify/probe"
)

// decode reads one frame as far as it is understood; what is not stays zero. What goes through the tunnel, which may be
// nil, is what it carries.
func decode(frame []byte, from *unix.SockaddrLinklayer, tunnel *probe.Tunnel) probe.Packet {
	packet := probe.Packet{Direction: probe.In}
	if from.Pkttype == unix.PACKET_OUTGOING {
		packet.Direction = probe.Out
	}
	first := gopacket.Decoder(layers.LayerTypeEthernet)
	if from.Hatype != unix.ARPHRD_ETHER && from.Hatype != unix.ARPHRD_LOOPBACK {
		first = layers.LayerTypeIPv4 // a device without a link header
	}
	udp := addLayers(&packet, frame, first)
	if carried := carriedBy(udp, tunnel); carried != nil {
		packet.Payload = ""
		inner := probe.Packet{Direction: packet.Direction, Outer: &probe.Outer{Packet: packet, Network: carried.network, Checksum: udp.Checksum}}
		addLayers(&inner, carried.frame, layers.LayerTypeEthernet)
		return inner
	}
	return packet
}

// carried is what a tunnel's packet has behind its UDP header.
type carried struct {
	network uint32
	frame   []byte
}

// carriedBy is nil where the datagram is none of the tunnel's.
func carriedBy(udp *layers.UDP, tunnel *probe.Tunnel) *carried {
	if udp == nil || tunnel == nil || uint16(udp.DstPort) != tunnel.Port {
		return nil
	}
	switch tunnel.Protocol {
	case probe.VXLAN:
		header := &layers.VXLAN{}
		if header.DecodeFromBytes(udp.Payload, gopacket.NilDecodeFeedback) == nil && header.ValidIDFlag {
			return &carried{header.VNI, header.Payload}
		}
	case probe.Geneve:
		header := &layers.Geneve{}
		if header.DecodeFromBytes(udp.Payload, gopacket.NilDecodeFeedback) == nil && header.Protocol == layers.EthernetTypeTransparentEthernetBridging {
			return &carried{header.VNI, header.Payload}
		}
	}
	return nil
}

// addLayers reads the headers of a frame up to that of its transport, which it returns if it is UDP's: what is behind it some
// decoders would take for a tunnel's by its port.
func addLayers(packet *probe.Packet, frame []byte, first gopacket.Decoder) *layers.UDP {
	packet.Length = len(frame)
	for _, layer := range gopacket.NewPacket(frame, first, gopacket.DecodeOptions{NoCopy: true}).Layers() {
		addLayer(packet, layer)
		switch layer := layer.(type) {
		case *layers.UDP:
			return layer
		case *layers.TCP, *layers.ICMPv4:
			return nil
		}
	}
	return nil
}

func addLayer(packet *probe.Packet, layer gopacket.Layer) {
	switch l := layer.(type) {
	case *layers.Ethernet:
		packet.SourceMAC, packet.DestMAC = l.SrcMAC.String(), l.DstMAC.String()
		packet.Protocol = strings.ToLower(l.EthernetType.String())
	case *layers.IPv4:
		packet.Protocol = "ipv4"
		packet.Source, packet.Destination = addr(l.SrcIP), addr(l.DstIP)
		packet.TTL, packet.DF = int(l.TTL), l.Flags&layers.IPv4DontFragment != 0
	case *layers.ICMPv4:
		packet.Protocol = "icmp"
		packet.ICMPType, packet.ICMPID = int(l.TypeCode.Type()), int(l.Id)
		setPayload(packet, l.Payload)
	case *layers.UDP:
		packet.Protocol = "udp"
		packet.SourcePort, packet.DestinationPort = uint16(l.SrcPort), uint16(l.DstPort)
		setPayload(packet, l.Payload)
	case *layers.TCP:
		packet.Protocol = "tcp"
		packet.SourcePort, packet.DestinationPort = uint16(l.SrcPort), uint16(l.DstPort)
		setPayload(packet, l.Payload)
	}
}

func setPayload(packet *probe.Packet, payload []byte) {
	packet.Payload = strings.ToValidUTF8(string(payload[:min(len(payload), probe.MaxPayload)]), "?")
}

func addr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a.Unmap()
}
