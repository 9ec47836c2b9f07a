package api

import (
	"net/netip"
	"time"
)

// ClusterHealth is which nodes of the cluster the agent reaches. It probes
// from a pod interface of its own, its health endpoint, the way any pod of
// the node would.
type ClusterHealth struct {
	Endpoint  netip.Addr   `json:"endpoint,omitzero"` // the health endpoint's address; unset while there is none
	Error     string       `json:"error,omitempty"`   // why this node cannot probe, or cannot be probed
	Reachable int          `json:"reachable"`         // nodes of which every probe was answered
	Partly    int          `json:"partly,omitempty"`  // nodes of which some were, and others not
	ICMP      int          `json:"icmp"`              // nodes of which every ping was answered
	TCP       int          `json:"tcp"`               // nodes of which every connection was
	Nodes     []NodeHealth `json:"nodes"`             // all nodes, this one included, sorted by name
}

// Reach says whether a node is reached.
type Reach string

// A node is partly reached where it answers by one protocol and not by the
// other, or on one of its addresses only.
const (
	Reached       Reach = "yes"    // every probe was answered
	ReachedPartly Reach = "partly" // some were
	NotReached    Reach = "no"     // none was
)

// NodeHealth is what the latest probes of one node found.
type NodeHealth struct {
	Name     string     `json:"name"`
	Self     bool       `json:"self,omitempty"`        // this node: only its own address is probed
	Addr     netip.Addr `json:"addr"`                  // the node's
	Endpoint netip.Addr `json:"endpoint,omitzero"`     // of its health endpoint; unset until the node told it
	ProbedAt time.Time  `json:"probedAt,omitzero"`     // unset until the first probes are over
	Probes   []Probe    `json:"probes,omitempty"`      // node before endpoint, icmp before tcp
	Reached  Reach      `json:"reached,omitempty"`     // unset until the first probes are over
	Failing  string     `json:"failing,omitempty"`     // a sentence on what was answered and what was not; empty when all was
	Since    time.Time  `json:"failingSince,omitzero"` // when it was noticed first
}

// AnswersBy tells whether the node was probed by a protocol and every such probe
// was answered.
func (n NodeHealth) AnswersBy(protocol string) bool {
	probed := false
	for _, p := range n.Probes {
		if p.Protocol == protocol {
			if probed = true; p.Error != "" {
				return false
			}
		}
	}
	return probed
}

// Probe is one way to reach a node, and how it went.
type Probe struct {
	Target   string        `json:"target"`          // node | endpoint
	Protocol string        `json:"protocol"`        // icmp | tcp
	Latency  time.Duration `json:"latency"`         // nanoseconds to the answer; 0: there was none
	Error    string        `json:"error,omitempty"` // why there was none
}
