package passport

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"wirelab.dev/wirelab/internal/api"
)

// Packet is what a frame says of itself, as far as a passport has room for it. What goes through a tunnel is what it carries.
type Packet struct {
	SrcMAC api.MAC        `json:"srcMAC,omitzero"`
	DstMAC api.MAC        `json:"dstMAC,omitzero"`
	Src    netip.AddrPort `json:"src"` // with port 0 where it has none
	Dst    netip.AddrPort `json:"dst"`
	TTL    int            `json:"ttl"`
	// Kind is what it is: echo request, SYN, datagram and the like.
	Kind string `json:"kind"`
	// Tunnel is what carries it; nil: it goes as it is.
	Tunnel *Tunnel `json:"tunnel,omitempty"`

	mark mark
	at   time.Time
}

// Tunnel is the packet that carries another one.
type Tunnel struct {
	Protocol string     `json:"protocol"` // VXLAN | Geneve
	VNI      uint32     `json:"vni"`
	Src      netip.Addr `json:"src"`
	Dst      netip.Addr `json:"dst"`
}

// mark is what a packet has that no translation changes.
type mark struct {
	protocol string // as probes have it
	payload  []byte // behind the header of the transport, of errors the quoted packet from its IP header on
	seq, ack uint32
	flags    string // of TCP, from SRA
	next     uint32 // the number that acknowledges all of a packet of TCP
	error    bool   // an ICMP error
	icmpType uint8
	length   int    // of the IP packet
	id       uint16 // of IP
}

// Ports of UDP behind which there are frames.
const (
	vxlanPort  = 8472
	genevePort = 6081
)

// read is what a frame says; false: it is none of IPv4 with a transport that probes have.
func read(frame []byte, raw bool) (Packet, bool) {
	first := gopacket.Decoder(layers.LayerTypeEthernet)
	if raw {
		first = layers.LayerTypeIPv4
	}
	return decode(frame, first)
}

func decode(data []byte, first gopacket.Decoder) (p Packet, ok bool) {
	var ip mark // as far as the IP header says it
	header := 0 // of IP, its bytes
	for _, l := range gopacket.NewPacket(data, first, gopacket.DecodeOptions{NoCopy: true, Lazy: true}).Layers() {
		switch l := l.(type) {
		case *layers.Ethernet:
			p.SrcMAC, p.DstMAC = mac(l.SrcMAC), mac(l.DstMAC)
		case *layers.IPv4:
			src, known := netip.AddrFromSlice(l.SrcIP)
			dst, _ := netip.AddrFromSlice(l.DstIP)
			if !known || l.FragOffset != 0 {
				return p, false
			}
			p.Src, p.Dst, p.TTL = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0), int(l.TTL)
			ip.length, ip.id, header = int(l.Length), l.Id, 4*int(l.IHL)
		case *layers.ICMPv4:
			p.mark = mark{protocol: ICMP, payload: l.Payload, seq: uint32(l.Seq), icmpType: l.TypeCode.Type(), length: ip.length, id: ip.id}
			switch p.mark.icmpType {
			case layers.ICMPv4TypeEchoRequest:
				p.Kind = "echo request"
			case layers.ICMPv4TypeEchoReply:
				p.Kind = "echo reply"
			default:
				p.Kind, p.mark.error = "ICMP "+l.TypeCode.String(), true
			}
			return p, p.Src.IsValid()
		case *layers.TCP:
			p.ports(uint16(l.SrcPort), uint16(l.DstPort))
			p.mark = mark{protocol: TCP, payload: l.Payload, seq: l.Seq, ack: l.Ack, length: ip.length, id: ip.id}
			data := max(ip.length-header-4*int(l.DataOffset), 0)
			p.mark.next = l.Seq + uint32(data) //nolint:gosec // at most 65,535
			for _, flag := range []bool{l.SYN, l.FIN} {
				if flag {
					p.mark.next++
				}
			}
			for _, f := range []struct {
				set  bool
				flag string
				name string
			}{{l.SYN, "S", "SYN"}, {l.RST, "R", "RST"}, {l.FIN, "F", "FIN"}, {l.ACK, "A", "ACK"}} {
				if f.set {
					p.mark.flags += f.flag
					p.Kind = strings.TrimSpace(p.Kind + " " + f.name)
				}
			}
			if data > 0 {
				p.Kind += fmt.Sprintf(", %d bytes", data)
			}
			return p, p.Src.IsValid()
		case *layers.UDP:
			if inner, ok := carried(l, p.Src.Addr(), p.Dst.Addr()); ok {
				return inner, true
			}
			p.ports(uint16(l.SrcPort), uint16(l.DstPort))
			p.mark = mark{protocol: UDP, payload: l.Payload, length: ip.length, id: ip.id}
			p.Kind = "datagram"
			return p, p.Src.IsValid()
		}
	}
	return p, false
}

func mac(b []byte) (m api.MAC) {
	copy(m[:], b)
	return m
}

func (p *Packet) ports(src, dst uint16) {
	p.Src, p.Dst = netip.AddrPortFrom(p.Src.Addr(), src), netip.AddrPortFrom(p.Dst.Addr(), dst)
}

// carried is what a tunnel's datagram has in it.
func carried(udp *layers.UDP, src, dst netip.Addr) (Packet, bool) {
	t := &Tunnel{Src: src, Dst: dst}
	var inner []byte
	switch udp.DstPort {
	case vxlanPort:
		var l layers.VXLAN
		if l.DecodeFromBytes(udp.Payload, gopacket.NilDecodeFeedback) != nil {
			return Packet{}, false
		}
		t.Protocol, t.VNI, inner = "VXLAN", l.VNI, l.Payload
	case genevePort:
		var l layers.Geneve
		if l.DecodeFromBytes(udp.Payload, gopacket.NilDecodeFeedback) != nil {
			return Packet{}, false
		}
		t.Protocol, t.VNI, inner = "Geneve", l.VNI, l.Payload
	default:
		return Packet{}, false
	}
	p, ok := decode(inner, layers.LayerTypeEthernet)
	if ok {
		p.Tunnel = t
	}
	return p, ok
}

// quotes says whether an ICMP error is about a packet that begins with these ports, has that TCP sequence number, or that
// payload.
func (m mark) quotes(what []byte) bool {
	return m.error && len(what) > 0 && bytes.Contains(m.payload, what)
}
