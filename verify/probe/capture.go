package probe

import (
	"net/netip"
	"slices"
	"strings"
)

// Capture collects packets seen on a device. Ready comes when the socket is
// bound: what is sent after it is not missed.
type Capture struct {
	Interface string `json:"interface"`
	Filter    Filter `json:"filter"`
	// Also picks further packets: one is collected that any of these matches.
	Also []Filter `json:"also,omitempty"`
	// Count ends the capture after so many packets; 0 means no such end.
	Count int `json:"count,omitempty"`
	// Until ends the capture after the first packet it matches, which is
	// collected too. A check for absence sends such a packet last.
	Until *Filter `json:"until,omitempty"`
	// Tunnel has a packet that goes through one collected as what it carries, and filters look at that.
	Tunnel *Tunnel `json:"tunnel,omitempty"`
}

// Protocols of tunnels.
const (
	VXLAN  = "vxlan"
	Geneve = "geneve"
)

// Tunnel is what makes a datagram one that carries another packet.
type Tunnel struct {
	Protocol string `json:"protocol"` // VXLAN or Geneve
	Port     uint16 `json:"port"`     // UDP, of the destination
}

// Picks tells whether p is one to collect.
func (c Capture) Picks(p Packet) bool {
	return c.Filter.Match(p) || slices.ContainsFunc(c.Also, func(f Filter) bool { return f.Match(p) })
}

// CaptureResult holds the packets in the order they were seen. A capture that
// ended by its timeout says so in Reply.Failure and still lists what it saw.
type CaptureResult struct {
	Packets []Packet `json:"packets"`
	// Lost is how many the kernel dropped because nettool read too slowly.
	Lost int `json:"lost,omitempty"`
}

// Direction says which way a packet crossed the device it was seen on.
type Direction string

// In is towards this network namespace, Out is away from it.
const (
	In  Direction = "in"
	Out Direction = "out"
)

// Filter picks packets; a zero field picks any.
type Filter struct {
	Direction       Direction  `json:"direction,omitempty"`
	Protocol        string     `json:"protocol,omitempty"` // "arp", "icmp", "tcp", "udp"
	Source          netip.Addr `json:"source,omitzero"`
	Destination     netip.Addr `json:"destination,omitzero"`
	SourcePort      uint16     `json:"sourcePort,omitempty"`
	DestinationPort uint16     `json:"destinationPort,omitempty"`
	// Contains is looked for in the payload above the transport header.
	Contains string `json:"contains,omitempty"`
}

// Packet is one decoded frame. MACs are empty on devices without a link
// header; ports and ICMP fields are 0 where they do not apply.
type Packet struct {
	Direction   Direction  `json:"direction"`
	SourceMAC   string     `json:"sourceMAC,omitempty"`
	DestMAC     string     `json:"destMAC,omitempty"`
	Protocol    string     `json:"protocol"` // "arp", "icmp", "tcp", "udp", "ipv4", "ipv6" or the EtherType
	Source      netip.Addr `json:"source,omitzero"`
	Destination netip.Addr `json:"destination,omitzero"`
	TTL         int        `json:"ttl,omitempty"`
	DF          bool       `json:"df,omitempty"`
	Length      int        `json:"length"` // of the frame, in bytes

	SourcePort      uint16 `json:"sourcePort,omitempty"`
	DestinationPort uint16 `json:"destinationPort,omitempty"`

	ICMPType int `json:"icmpType,omitempty"`
	ICMPID   int `json:"icmpID,omitempty"`

	Payload string `json:"payload,omitempty"` // its first MaxPayload bytes

	// Outer is what carries the packet through the Capture's Tunnel; nil where it goes as it is.
	Outer *Outer `json:"outer,omitempty"`
}

// Outer is a packet that carries another one. Payload is that one's.
type Outer struct {
	Packet
	Network  uint32 `json:"network"`  // its number, the VNI
	Checksum uint16 `json:"checksum"` // of UDP
}

// MaxPayload bounds Packet.Payload in bytes.
const MaxPayload = 256

// Match tells whether p is one that f picks.
func (f Filter) Match(p Packet) bool {
	switch {
	case f.Direction != "" && f.Direction != p.Direction,
		f.Protocol != "" && f.Protocol != p.Protocol,
		f.Source.IsValid() && f.Source != p.Source,
		f.Destination.IsValid() && f.Destination != p.Destination,
		f.SourcePort != 0 && f.SourcePort != p.SourcePort,
		f.DestinationPort != 0 && f.DestinationPort != p.DestinationPort:
		return false
	}
	return strings.Contains(p.Payload, f.Contains)
}
