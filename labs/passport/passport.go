// Package passport joins what captures and BPF programs say of one packet's way to one account of it: where it was seen, what
// each program did, what changed, and why it was not seen elsewhere. It asks nobody, so all it says follows from its input.
package passport

import (
	"net/netip"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

// Protocols of a probe.
const (
	ICMP = "icmp"
	TCP  = "tcp"
	UDP  = "udp"
)

// Probe is the packet that was sent, and whom for.
type Probe struct {
	Protocol string         `json:"protocol"`
	From     End            `json:"from"`
	To       End            `json:"to"`
	Target   netip.AddrPort `json:"target"`           // what the sender asked for; port 0 for ICMP
	Source   netip.Addr     `json:"source,omitzero"`  // of the pod that sent it; zero: a node, which has several
	Port     uint16         `json:"port,omitempty"`   // it was sent from
	Marker   string         `json:"marker,omitempty"` // the payload begins with, but for TCP
	// Watched is the packet where none was sent, but waited for; nil: it was sent.
	Watched *Watched `json:"watched,omitempty"`
}

// End is who sends or gets it.
type End struct {
	Name string `json:"name"`           // a pod or Service with its namespace, a node or an address
	Kind string `json:"kind"`           // of the kinds below
	Node string `json:"node,omitempty"` // of a Service that at which its nodePort was asked for
}

// Kinds of an [End].
const (
	Pod     = "pod"
	Node    = "node"
	Service = "service"
	Outside = "address" // of nobody whom the lab knows
)

// Point is a device at which packets were captured.
type Point struct {
	Node   string `json:"node"`
	Device string `json:"device"`
	// Pod has the device, or, where Host says so, the other end of it.
	Pod  string `json:"pod,omitempty"`
	Host bool   `json:"host,omitempty"`
	Raw  bool   `json:"raw,omitempty"`
	MAC  string `json:"mac,omitempty"` // the device's
	// Unproven is why nothing follows from what was not seen there; empty: a frame that was sent across it was seen, and
	// nothing was lost.
	Unproven string `json:"unproven,omitempty"`
}

// Sight is a packet at a point.
type Sight struct {
	Point int       `json:"point"`
	Time  time.Time `json:"time"`
	Out   bool      `json:"out"`
	Data  []byte    `json:"data"`
}

// OnNode is what is known of a node.
type OnNode struct {
	Name string `json:"name"`
	// Away is why its programs told nothing; empty: they told all of it that they tell.
	Away string `json:"away,omitempty"`
	// Hooks are what the node's stack had of the probe, in the order of a packet's way; nil: nobody counted.
	Hooks []Hook `json:"hooks,omitempty"`
	// NIC is the device that has its address, Tunnel that of its tunnel; empty: none.
	NIC    string     `json:"nic,omitempty"`
	Tunnel string     `json:"tunnel,omitempty"`
	IP     netip.Addr `json:"ip,omitzero"`
	// Programs are those that are attached; nil: nobody says.
	Programs []api.Program `json:"programs,omitempty"`
}

// Hook is one of the hooks of the node's stack, and what was counted there, before all rules and behind them.
type Hook struct {
	Name    string `json:"name"` // PREROUTING and so on
	Request Count  `json:"request"`
	Reply   Count  `json:"reply"`
	// Proven says that what the probe had to be counted by has counted a packet there.
	Proven bool `json:"proven"`
	// Packets passed there, where one was waited for: those of which it may have been, to be counted.
	Packets []HookPacket `json:"packets,omitempty"`
}

// Count is how many packets came to a hook, and how many were left behind its rules.
type Count struct {
	In  int `json:"in"`
	Out int `json:"out"`
}

// Input is what a passport is made of.
type Input struct {
	Probe  Probe       `json:"probe"`
	Failed string      `json:"failed,omitempty"` // what the sender got instead of an answer
	Points []Point     `json:"points"`
	Sights []Sight     `json:"sights"`
	Nodes  []OnNode    `json:"nodes"`
	Events []api.Event `json:"events"`
	Notes  []string    `json:"notes,omitempty"` // what was known before, a sentence each
	// Nobody says that, and why, nobody has the target's address; empty: somebody outside the lab may.
	Nobody string `json:"nobody,omitempty"`
}

// Passport is the account of a probe.
type Passport struct {
	Probe  Probe  `json:"probe"`
	Failed string `json:"failed,omitempty"`
	// Request is the probe's way, Answer that of what answered it; nil: nothing was seen of an answer.
	Request *Way `json:"request"`
	Answer  *Way `json:"answer,omitempty"`
	// Notes are what the passport cannot tell, and what was known before, a sentence each.
	Notes []string `json:"notes,omitempty"`
}

// Way is a packet's.
type Way struct {
	Kind     string    `json:"kind"` // of the packet
	Hops     []Hop     `json:"hops"`
	Absences []Absence `json:"absences,omitempty"`
	// Arrived says that it came to whom it was for. Otherwise End says where it ended, and Why as far as it is known; WayOut
	// is what to do about it.
	Arrived bool   `json:"arrived"`
	End     string `json:"end,omitempty"`
	Why     string `json:"why,omitempty"`
	WayOut  string `json:"wayOut,omitempty"`
}

// Hop is a place that the packet came to.
type Hop struct {
	Node      string `json:"node"`
	Device    string `json:"device,omitempty"`    // empty: the node's stack, or a socket
	Pod       string `json:"pod,omitempty"`       // has the device
	Direction string `json:"direction,omitempty"` // in | out: whether the device got it or sent it
	// Packet is as it was captured there; nil: captures do not see it there.
	Packet *Packet `json:"packet,omitempty"`
	// Changes are what it has that it had not where it was seen before.
	Changes []Change `json:"changes,omitempty"`
	Program *Program `json:"program,omitempty"`
	// Hooks are those of the node's stack that it passed.
	Hooks []string `json:"hooks,omitempty"`
	// Socket is what the address that was asked for became before there was a packet; nil: it is no such hop.
	Socket *Change `json:"socket,omitempty"`
	// Unknown is why it is not known what happened here; empty: it is.
	Unknown string `json:"unknown,omitempty"`

	at   time.Time
	told Packet // as the program has it
}

// Change is a field of a packet that became another.
type Change struct {
	Field string `json:"field"` // source MAC, TTL and so on
	Was   string `json:"was"`
	Is    string `json:"is"`
}

// Program is what a BPF program did with the packet.
type Program struct {
	Name string `json:"name"`
	Hook string `json:"hook"` // tcx ingress | tcx egress, with clsact in the place of tcx on kernels before 6.6
	// Verdict is what became of it, as events have it; empty: it had nothing to do with it. Dropped says that it ended here.
	Verdict string `json:"verdict"`
	Dropped bool   `json:"dropped,omitempty"`
	// Helper is what it was handed on with.
	Helper      string         `json:"helper,omitempty"`
	State       api.State      `json:"state,omitempty"`
	Service     string         `json:"service,omitempty"`
	OrigSrc     netip.AddrPort `json:"origSrc,omitzero"` // where they were translated
	OrigDst     netip.AddrPort `json:"origDst,omitzero"`
	SrcIdentity uint32         `json:"srcIdentity,omitempty"`
	DstIdentity uint32         `json:"dstIdentity,omitempty"`
	Cached      bool           `json:"cached,omitempty"`
	Steps       []api.Step     `json:"steps,omitempty"`

	egress bool // it is at that side of a device
}

// Absence is a place where the packet was not seen, though one may look for it there, and why.
type Absence struct {
	Node   string `json:"node"`
	Device string `json:"device,omitempty"`
	Pod    string `json:"pod,omitempty"` // on the other side of the device
	// Hooks are those of the node's stack that did not count it.
	Hooks  []string `json:"hooks,omitempty"`
	Reason string   `json:"reason"`
}
