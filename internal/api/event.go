package api

import (
	"net/netip"
	"time"
)

// Kinds of events.
const (
	EventDrop  = "drop"  // a packet that went nowhere
	EventTrace = "trace" // a packet on its way
)

// Event is one thing the datapath reported about a packet. Addresses and
// ports are zero when the packet was not read that far. Ports are in host
// byte order.
type Event struct {
	Time    time.Time  `json:"time"`
	Node    string     `json:"node"`
	Kind    string     `json:"kind"`
	Point   string     `json:"point"`             // where it was seen: from-pod, to-pod
	Reason  string     `json:"reason,omitempty"`  // of a drop
	Verdict string     `json:"verdict,omitempty"` // of a trace: what became of the packet
	Iface   string     `json:"iface,omitempty"`
	SrcMAC  string     `json:"srcMAC,omitempty"`
	DstMAC  string     `json:"dstMAC,omitempty"`
	Proto   string     `json:"proto,omitempty"` // TCP, UDP, ICMP, ARP, or a number
	Src     netip.Addr `json:"src,omitzero"`
	Dst     netip.Addr `json:"dst,omitzero"`
	SrcPort uint16     `json:"srcPort,omitempty"`
	DstPort uint16     `json:"dstPort,omitempty"`
	TTL     uint8      `json:"ttl,omitempty"`
	Bytes   int        `json:"bytes"`
	// Lost is the number of events the node could not deliver before this one.
	Lost uint64 `json:"lost,omitempty"`
}
