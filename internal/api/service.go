package api

import (
	"net/netip"
	"time"
)

// Service is one port of a Service as the node's maps have it.
type Service struct {
	ID uint32 `json:"id"` // unique on the node, the same after a restart
	// Service is "namespace/name" and, if the port has a name, ":port". It is
	// empty as long as an agent that has just started has not named it.
	Service  string        `json:"service"`
	Protocol string        `json:"protocol"` // tcp | udp
	Affinity time.Duration `json:"affinity"` // nanoseconds; 0: each connection is on its own
	// InternalLocal and ExternalLocal say that only backends on this node
	// are used, by clients in the cluster and by clients outside.
	InternalLocal bool              `json:"internalLocal"`
	ExternalLocal bool              `json:"externalLocal"`
	SourceRanges  []netip.Prefix    `json:"sourceRanges,omitempty"` // of LoadBalancer addresses; empty: all
	Frontends     []ServiceFrontend `json:"frontends"`              // sorted by address and port
	Backends      []Backend         `json:"backends"`               // those in use for any of them, sorted by address
	// LeftOut is what the node does not carry of the whole Service, of whose
	// ports the first has it. A Service of which nothing is carried is here
	// without ID and frontends.
	LeftOut []string `json:"leftOut,omitempty"`
}

// ServiceFrontend is one address of a Service.
type ServiceFrontend struct {
	Type string         `json:"type"` // ClusterIP | NodePort | ExternalIP | LoadBalancer | HostPort
	Addr netip.AddrPort `json:"addr"`
	// Backends are those in use for this address, by clients in the cluster or
	// outside, sorted by address.
	Backends []Backend `json:"backends"`
}

// Frontend is one entry of the map of Services and the backends it points at.
// A frontend that is reached from inside and outside has two entries.
type Frontend struct {
	ID           uint32         `json:"id"`      // the Service's
	Service      string         `json:"service"` // as in [Service]
	Type         string         `json:"type"`
	Addr         netip.AddrPort `json:"addr"`
	Protocol     string         `json:"protocol"`
	From         string         `json:"from"`  // inside | outside the cluster
	Local        bool           `json:"local"` // only backends on this node
	Affinity     time.Duration  `json:"affinity"`
	SourceRanges []netip.Prefix `json:"sourceRanges,omitempty"`
	Backends     []Backend      `json:"backends"` // in the order of their slots
}

// Backend is one place that new connections are sent to.
type Backend struct {
	ID     uint32         `json:"id"`
	Addr   netip.AddrPort `json:"addr"`
	OnNode bool           `json:"onNode"` // it is on this node
}

// Flow is one direction of a translated flow: what is sent from Src to Dst
// goes on from NewSrc to NewDst.
type Flow struct {
	Protocol string         `json:"protocol"`
	Src      netip.AddrPort `json:"src"`
	Dst      netip.AddrPort `json:"dst"`
	NewSrc   netip.AddrPort `json:"newSrc"`
	NewDst   netip.AddrPort `json:"newDst"`
	Service  string         `json:"service,omitempty"` // as in [Service]; empty for a flow of none
	Kind     string         `json:"kind"`              // service | masquerade | inbound: why it is remembered
	State    string         `json:"state"`             // opening | answered | closing | reset
	Expires  time.Duration  `json:"expires"`           // nanoseconds from now; negative when it is due
}

// Services is what the kernel has for Services on one node.
type Services struct {
	Sockets   []string       `json:"sockets"`             // hooks at Cgroup that run the programs now loaded, sorted
	Cgroup    uint64         `json:"cgroup"`              // the kernel's number of the cgroup; 0: none
	Devices   []string       `json:"devices"`             // NICs that run the programs now loaded, sorted
	NodePorts string         `json:"nodePorts,omitempty"` // the lowest and highest in use: "30080-32000", or the only one
	NATPorts  string         `json:"natPorts"`            // ports of the node for flows to other nodes
	Services  int            `json:"services"`            // ports of Services, without host ports
	Affinity  int            `json:"affinity"`            // those with session affinity
	Frontends map[string]int `json:"frontends"`           // addresses and ports by type
	Backends  int            `json:"backends"`
}
