package api

import (
	"net/netip"
	"time"
)

// Event is what a program reported about one packet.
type Event struct {
	Time time.Time `json:"time"`
	Node string    `json:"node"`
	Drop bool      `json:"drop"`
	// Reason is what became of the packet: to-kernel, delivered, forwarded, arp-reply, or
	// why it was dropped.
	Reason    string `json:"reason"`
	Direction string `json:"direction"` // from-pod | to-pod | from-network | to-network
	IfIndex   int    `json:"ifIndex"`
	Iface     string `json:"iface,omitempty"`
	SrcMAC    MAC    `json:"srcMAC"` // both as the program saw them
	DstMAC    MAC    `json:"dstMAC"`
	EtherType uint16 `json:"etherType"`
	Proto     uint8  `json:"proto,omitempty"` // IP protocol number
	// Src and Dst have port 0 where the packet has none; both are left out
	// for what is neither IPv4 nor ARP. Ports are in host byte order.
	Src      netip.AddrPort `json:"src,omitzero"`
	Dst      netip.AddrPort `json:"dst,omitzero"`
	TTL      uint8          `json:"ttl,omitempty"`
	TCPFlags uint8          `json:"tcpFlags,omitempty"`
	ICMPType uint8          `json:"icmpType,omitempty"`
	Length   int            `json:"length"` // bytes, with the Ethernet header
	// SrcEndpoint and DstEndpoint are IDs of endpoints of this node, 0 for
	// none.
	SrcEndpoint uint32 `json:"srcEndpoint,omitempty"`
	DstEndpoint uint32 `json:"dstEndpoint,omitempty"`
	// Missed is how many events before this one were lost: there were too many at once.
	Missed int `json:"missed,omitempty"`
}

// Records of the agent's log that tell of packets have this attribute.
const (
	LogTopic    = "topic"
	PacketTopic = "packets"
)
