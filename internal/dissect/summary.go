package dissect

import (
	"fmt"
	"net"
	"strconv"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Summary describes a packet in a line, as far as it is understood. A raw one begins with the IP header, another one with
// that of Ethernet.
func Summary(data []byte, raw bool) string {
	first := layers.LayerTypeEthernet
	if raw && len(data) > 0 && data[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	} else if raw {
		first = layers.LayerTypeIPv4
	}
	return summary(data, first)
}

func summary(data []byte, first gopacket.Decoder) string {
	var src, dst net.IP
	ip := fmt.Sprintf("%d bytes", len(data)) // until more is known
	for _, l := range gopacket.NewPacket(data, first, gopacket.DecodeOptions{NoCopy: true, Lazy: true}).Layers() {
		switch l := l.(type) {
		case *layers.Ethernet:
			ip = fmt.Sprintf("%s %s > %s, %d bytes", l.EthernetType, l.SrcMAC, l.DstMAC, len(data))
		case *layers.ARP:
			return "ARP " + arp(l)
		case *layers.IPv4:
			if src, dst = l.SrcIP, l.DstIP; src == nil { // there is only a part of it
				return ip
			}
			ip = fmt.Sprintf("%s %s > %s, TTL %d, %d bytes", l.Protocol, src, dst, l.TTL, l.Length)
			if l.FragOffset != 0 {
				return fmt.Sprintf("%s, fragment from byte %d on", ip, 8*int(l.FragOffset))
			}
		case *layers.IPv6:
			if src, dst = l.SrcIP, l.DstIP; src == nil {
				return ip
			}
			ip = fmt.Sprintf("%s %s > %s, hop limit %d, %d bytes", l.NextHeader, src, dst, l.HopLimit, l.Length)
		case *layers.ICMPv4:
			return fmt.Sprintf("%s: %s", ip, icmp(l))
		case *layers.ICMPv6:
			return fmt.Sprintf("%s: %s", ip, l.TypeCode)
		case *layers.TCP:
			return fmt.Sprintf("TCP %s > %s: %s", end(src, uint16(l.SrcPort)), end(dst, uint16(l.DstPort)), tcpText(l))
		case *layers.UDP:
			if inner := below(l); inner != nil {
				return carried(l.Payload, inner, src, dst)
			}
			return fmt.Sprintf("UDP %s > %s: %d bytes", end(src, uint16(l.SrcPort)), end(dst, uint16(l.DstPort)), len(l.Payload))
		}
	}
	return ip
}

// carried is what a tunnel's datagram says.
func carried(payload []byte, tunnel gopacket.Decoder, src, dst net.IP) string {
	head := fmt.Sprintf("%s > %s", src, dst)
	all := gopacket.NewPacket(payload, tunnel, gopacket.DecodeOptions{NoCopy: true, Lazy: true}).Layers()
	if len(all) == 0 {
		return "UDP " + head
	}
	switch l := all[0].(type) {
	case *layers.VXLAN:
		head = fmt.Sprintf("VXLAN %s, VNI %d", head, l.VNI)
	case *layers.Geneve:
		head = fmt.Sprintf("Geneve %s, VNI %d", head, l.VNI)
	default:
		return "UDP " + head
	}
	return head + ": " + summary(all[0].LayerPayload(), layers.LayerTypeEthernet)
}

func tcpText(l *layers.TCP) string {
	text := fmt.Sprintf("%s, seq %d", tcpFlags(l), l.Seq)
	if l.ACK {
		text += fmt.Sprintf(", ack %d", l.Ack)
	}
	return text + fmt.Sprintf(", %d bytes", len(l.Payload))
}

func end(ip net.IP, port uint16) string {
	return net.JoinHostPort(ip.String(), strconv.Itoa(int(port)))
}
