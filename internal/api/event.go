package api

import (
	"net/netip"
	"time"
)

// EventType is what an event is about.
type EventType string

const (
	EventTrace EventType = "trace" // what became of a packet that was not dropped
	EventDrop  EventType = "drop"  // why a packet was dropped
	// EventLost says that events of a CPU are missing, in front of the next one of that CPU; nothing else of it counts
	// but Time, Node, CPU and Missed.
	EventLost EventType = "lost"
)

// Event is what a program reported about one packet, or that such reports were lost.
type Event struct {
	Type EventType `json:"type"`
	Time time.Time `json:"time"`
	Node string    `json:"node"`
	CPU  int       `json:"cpu"`
	// Sequence is the event's number among those of its CPU, from 1 on.
	Sequence uint64 `json:"sequence,omitempty"`
	// Missed is how many events were lost: there were too many at once, or their reader was too slow.
	Missed int `json:"missed,omitempty"`
	// Reason is what became of the packet: to-kernel, delivered, forwarded, arp-reply, or
	// why it was dropped.
	Reason    string `json:"reason,omitempty"`
	Direction string `json:"direction,omitempty"` // from-pod | to-pod | from-network | to-network
	IfIndex   int    `json:"ifIndex,omitempty"`
	Iface     string `json:"iface,omitempty"`
	SrcMAC    MAC    `json:"srcMAC,omitzero"` // both as the program saw them
	DstMAC    MAC    `json:"dstMAC,omitzero"`
	EtherType uint16 `json:"etherType,omitempty"`
	Proto     uint8  `json:"proto,omitempty"` // IP protocol number
	// Src and Dst have port 0 where the packet has none; both are left out
	// for what is neither IPv4 nor ARP. Ports are in host byte order.
	Src      netip.AddrPort `json:"src,omitzero"`
	Dst      netip.AddrPort `json:"dst,omitzero"`
	TTL      uint8          `json:"ttl,omitempty"`
	TCPFlags uint8          `json:"tcpFlags,omitempty"`
	ICMPType uint8          `json:"icmpType,omitempty"`
	Length   int            `json:"length,omitempty"` // bytes, with the Ethernet header
	// SrcEndpoint and DstEndpoint are IDs of endpoints of this node, 0 for
	// none.
	SrcEndpoint uint32 `json:"srcEndpoint,omitempty"`
	DstEndpoint uint32 `json:"dstEndpoint,omitempty"`
}

// Records of the agent's log that tell of packets have this attribute.
const (
	LogTopic    = "topic"
	PacketTopic = "packets"
)
