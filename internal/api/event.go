package api

import (
	"net/netip"
	"time"
)

// EventType is what an event is about.
type EventType string

const (
	EventTrace EventType = "trace" // a packet at a point of its way
	EventDrop  EventType = "drop"  // why a packet was dropped
	EventStep  EventType = "step"  // a step of the decision about a packet, in Step
	// EventLost says that events of a CPU are missing, in front of the next one of that CPU; nothing else of it counts
	// but Time, Node, CPU and Missed.
	EventLost EventType = "lost"
)

// Point is where a packet is seen.
type Point string

// Points of a packet's way: where it comes in, and where it goes. The node's stack is one of the places.
const (
	FromPod     Point = "from-pod"
	ToPod       Point = "to-pod"
	FromStack   Point = "from-stack"
	ToStack     Point = "to-stack"
	FromNetwork Point = "from-network"
	ToNetwork   Point = "to-network"
	FromTunnel  Point = "from-tunnel"
	ToTunnel    Point = "to-tunnel"
)

// State is what a packet is in its flow.
type State string

const (
	StateNew         State = "new"         // of who opens the flow; nobody has answered yet
	StateEstablished State = "established" // of who has opened it
	StateReply       State = "reply"       // of the other side
	StateRelated     State = "related"     // an ICMP error about a packet of a known flow
)

// Occasion is why there is a trace event about a packet, where not every packet has one.
type Occasion string

const (
	OccasionStart    Occasion = "start"    // of a flow
	OccasionReply    Occasion = "reply"    // the first
	OccasionEnd      Occasion = "end"      // both sides of a TCP connection have closed it, or one has reset it
	OccasionInterval Occasion = "interval" // 5 s since the last event about the flow
)

// Event is what a program reported about one packet, or that such reports were lost.
type Event struct {
	Type EventType `json:"type"`
	Time time.Time `json:"time"`
	Node string    `json:"node"`
	CPU  int       `json:"cpu"`
	// Sequence is the event's number among those of its CPU, from 1 on.
	Sequence uint64 `json:"sequence,omitempty"`
	// Packet is the Sequence of the first event about the packet: the events of one packet have CPU and Packet in common, as
	// long as one program works on it. In the next one, behind the node's stack or on another node, it is another.
	Packet uint64 `json:"packet,omitempty"`
	// Missed is how many events were lost: there were too many at once, or their reader was too slow.
	Missed int `json:"missed,omitempty"`
	// Point is, of a drop, where the packet came in.
	Point Point `json:"point,omitempty"`
	// Reason is what became of the packet: to-kernel, delivered, forwarded, arp-reply, or
	// why it was dropped. It is empty where a packet comes in, and where it leaves a program that has nothing to do with it.
	Reason    string `json:"reason,omitempty"`
	Direction string `json:"direction,omitempty"` // the program, as metrics have it: from-pod | to-pod | from-network | to-network
	IfIndex   int    `json:"ifIndex,omitempty"`   // where it came in
	Iface     string `json:"iface,omitempty"`
	SrcMAC    MAC    `json:"srcMAC,omitzero"` // both as it came in
	DstMAC    MAC    `json:"dstMAC,omitzero"`
	EtherType uint16 `json:"etherType,omitempty"`
	Proto     uint8  `json:"proto,omitempty"` // IP protocol number
	// Src and Dst are those that the packet has at Point, with port 0 where it has none; both are left out
	// for what is neither IPv4 nor ARP. Ports are in host byte order.
	Src netip.AddrPort `json:"src,omitzero"`
	Dst netip.AddrPort `json:"dst,omitzero"`
	// OrigSrc and OrigDst are those that it came with, where they have been translated.
	OrigSrc  netip.AddrPort `json:"origSrc,omitzero"`
	OrigDst  netip.AddrPort `json:"origDst,omitzero"`
	TTL      uint8          `json:"ttl,omitempty"` // it came with
	TCPFlags uint8          `json:"tcpFlags,omitempty"`
	ICMPType uint8          `json:"icmpType,omitempty"`
	Length   int            `json:"length,omitempty"` // bytes, with the Ethernet header
	// SrcEndpoint and DstEndpoint are IDs of endpoints of this node, 0 for
	// none.
	SrcEndpoint uint32 `json:"srcEndpoint,omitempty"`
	DstEndpoint uint32 `json:"dstEndpoint,omitempty"`
	// SrcIdentity and DstIdentity are who sends the packet and who gets it; 0: not known, or, where it comes in, not asked yet.
	SrcIdentity uint32 `json:"srcIdentity,omitempty"`
	DstIdentity uint32 `json:"dstIdentity,omitempty"`
	// Service is whom the flow is for, as in [Service]; empty: none, or one that has no name yet.
	Service string `json:"service,omitempty"`
	// State is empty where a packet comes in, of drops, and of what has no flow.
	State State `json:"state,omitempty"`
	// Age is how long ago the flow began, as far as events know it.
	Age      time.Duration `json:"age,omitempty"`
	Occasion Occasion      `json:"occasion,omitempty"`
	// Sent and Returned are what who opened the flow, and the other side, have sent so far, this packet included.
	Sent     Volume `json:"sent,omitzero"`
	Returned Volume `json:"returned,omitzero"`
	// Cached says that the packet follows a remembered decision, which was made Decided ago.
	Cached  bool          `json:"cached,omitempty"`
	Decided time.Duration `json:"decided,omitempty"`
	// Data is the beginning of the frame, from its Ethernet header on, as it is at Point.
	Data []byte `json:"data,omitempty"`
	Step *Step  `json:"step,omitempty"`
}

// Volume is some packets, and their bytes with Ethernet headers.
type Volume struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// StepKind is what a program did.
type StepKind string

// Kinds of steps, and what a [Step] has of each.
const (
	StepCache       StepKind = "cache"       // follows a remembered decision: Age
	StepLookup      StepKind = "lookup"      // looks up a flow: Table, Proto, Src, Dst, Found, State, Age or Idle
	StepIdentity    StepKind = "identity"    // finds who has an address: Address, Identity
	StepTranslation StepKind = "translation" // Proto, Src and Dst, NewSrc and NewDst, Service
	StepCreated     StepKind = "created"     // enters a flow: Table, Proto, Src, Dst
	StepRoute       StepKind = "route"       // finds a route: Address is the next hop; IfIndex, Iface, MTU; Found: it was remembered
	StepTunnel      StepKind = "tunnel"      // wraps the packet: Address is the other node, Identity the network's number
	StepDelivery    StepKind = "delivery"    // gives it to a pod: Endpoint, IfIndex, Iface
	StepStack       StepKind = "stack"       // gives it to the node's stack
)

// Tables in which flows are looked up.
const (
	TableCT       = "ct"       // translated flows, by the packets of who opened them
	TableNAT      = "nat"      // translated flows, by the answers
	TableObserved = "observed" // all flows, for events
)

// Step is something that a program did on the way to its decision about a packet. What it did not do has no step.
type Step struct {
	Kind     StepKind       `json:"kind"`
	Table    string         `json:"table,omitempty"`
	Proto    uint8          `json:"proto,omitempty"`
	Src      netip.AddrPort `json:"src,omitzero"` // of an ICMP echo, ports are its id or 0
	Dst      netip.AddrPort `json:"dst,omitzero"`
	NewSrc   netip.AddrPort `json:"newSrc,omitzero"`
	NewDst   netip.AddrPort `json:"newDst,omitzero"`
	Found    bool           `json:"found,omitempty"`
	State    State          `json:"state,omitempty"`
	Age      time.Duration  `json:"age,omitempty"`  // since it was made
	Idle     time.Duration  `json:"idle,omitempty"` // since its latest packet, in whole seconds: ct and nat do not note when an entry was made
	Address  netip.Addr     `json:"address,omitzero"`
	Identity uint32         `json:"identity,omitempty"`
	Endpoint uint32         `json:"endpoint,omitempty"`
	Service  string         `json:"service,omitempty"`
	IfIndex  int            `json:"ifIndex,omitempty"`
	Iface    string         `json:"iface,omitempty"`
	MTU      int            `json:"mtu,omitempty"`
}

// Records of the agent's log that tell of packets have this attribute.
const (
	LogTopic    = "topic"
	PacketTopic = "packets"
)
