// Package dissect says what is in a frame, layer by layer.
package dissect

import (
	"fmt"
	"net"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Ports of UDP behind which there are frames.
const (
	vxlanPort  = 8472
	genevePort = 6081
)

// Frame describes the layers of a frame that begins with the Ethernet header, the outermost first, as far as they are understood.
// The frame may be cut off at its end.
func Frame(frame []byte) []string { return from(frame, layers.LayerTypeEthernet) }

func from(data []byte, first gopacket.Decoder) (out []string) {
	p := gopacket.NewPacket(data, first, gopacket.DecodeOptions{NoCopy: true, Lazy: true})
	for _, l := range p.Layers() {
		if line, known := describe(l); known {
			out = append(out, line)
		}
		if udp, ok := l.(*layers.UDP); ok {
			if inner := below(udp); inner != nil {
				return append(out, from(udp.Payload, inner)...)
			}
		}
	}
	return out
}

// below is what is in a tunnel's datagram; nil for another one.
func below(udp *layers.UDP) gopacket.Decoder {
	switch udp.DstPort {
	case vxlanPort:
		return layers.LayerTypeVXLAN
	case genevePort:
		return layers.LayerTypeGeneve
	}
	return nil
}

func describe(layer gopacket.Layer) (line string, known bool) {
	var name, text string
	switch l := layer.(type) {
	case *layers.Ethernet:
		name, text = "Ethernet", fmt.Sprintf("%s > %s, %s", l.SrcMAC, l.DstMAC, l.EthernetType)
	case *layers.ARP:
		name, text = "ARP", arp(l)
	case *layers.IPv4:
		name, text = "IPv4", ipv4(l)
	case *layers.IPv6:
		name, text = "IPv6", fmt.Sprintf("%s > %s, hop limit %d, %d bytes", l.SrcIP, l.DstIP, l.HopLimit, l.Length)
	case *layers.ICMPv4:
		name, text = "ICMP", icmp(l)
	case *layers.UDP:
		name, text = "UDP", fmt.Sprintf("%d > %d, %d bytes, %s", l.SrcPort, l.DstPort, l.Length, checksum(l.Checksum))
	case *layers.TCP:
		name, text = "TCP", tcp(l)
	case *layers.VXLAN:
		name, text = "VXLAN", fmt.Sprintf("VNI %d", l.VNI)
	case *layers.Geneve:
		name, text = "Geneve", fmt.Sprintf("VNI %d", l.VNI)
	case *gopacket.Payload:
		name, text = "Payload", fmt.Sprintf("%d bytes", len(*l))
	default:
		return "", false
	}
	return fmt.Sprintf("%-9s %s", name, text), true
}

func arp(l *layers.ARP) string {
	sender, target := net.IP(l.SourceProtAddress), net.IP(l.DstProtAddress)
	if l.Operation == layers.ARPReply {
		return fmt.Sprintf("%s is at %s", sender, net.HardwareAddr(l.SourceHwAddress))
	}
	return fmt.Sprintf("who has %s, asks %s", target, sender)
}

func ipv4(l *layers.IPv4) string {
	text := fmt.Sprintf("%s > %s, TTL %d, %d bytes, id %d", l.SrcIP, l.DstIP, l.TTL, l.Length, l.Id)
	if l.TOS != 0 {
		text += fmt.Sprintf(", TOS %d", l.TOS)
	}
	if l.Flags&layers.IPv4DontFragment != 0 {
		text += ", DF"
	}
	if l.FragOffset != 0 || l.Flags&layers.IPv4MoreFragments != 0 {
		text += fmt.Sprintf(", fragment from byte %d on", 8*int(l.FragOffset))
	}
	return text
}

func icmp(l *layers.ICMPv4) string {
	switch l.TypeCode.Type() {
	case layers.ICMPv4TypeEchoRequest:
		return fmt.Sprintf("echo request, id %d, seq %d", l.Id, l.Seq)
	case layers.ICMPv4TypeEchoReply:
		return fmt.Sprintf("echo reply, id %d, seq %d", l.Id, l.Seq)
	}
	return l.TypeCode.String()
}

func tcp(l *layers.TCP) string {
	text := fmt.Sprintf("%d > %d, %s, seq %d", l.SrcPort, l.DstPort, tcpFlags(l), l.Seq)
	if l.ACK {
		text += fmt.Sprintf(", ack %d", l.Ack)
	}
	return text + fmt.Sprintf(", window %d, %d bytes", l.Window, len(l.Payload))
}

func tcpFlags(l *layers.TCP) string {
	var flags []string
	for _, f := range []struct {
		set  bool
		name string
	}{{l.SYN, "SYN"}, {l.FIN, "FIN"}, {l.RST, "RST"}, {l.PSH, "PSH"}, {l.ACK, "ACK"}, {l.URG, "URG"}} {
		if f.set {
			flags = append(flags, f.name)
		}
	}
	return strings.Join(flags, " ")
}

func checksum(n uint16) string {
	if n == 0 {
		return "no checksum"
	}
	return fmt.Sprintf("checksum 0x%04x", n)
}
