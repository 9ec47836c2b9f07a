package api

import (
	"net/netip"
	"time"
)

// Status is what one agent knows of its node. All that describes the kernel
// is read back from the kernel when it is asked for; nothing is echoed from
// the settings, except where a field is named Requested.
type Status struct {
	Version string    `json:"version"`
	Node    string    `json:"node"`
	Cluster string    `json:"cluster,omitempty"`
	Started time.Time `json:"started"`

	// Ready means that pods on this node work: the datapath is open, every
	// reconciler has succeeded once and is not failing, the CNI socket is
	// served and the CNI configuration is written. NotReady lists what is
	// missing, a sentence each; it is empty exactly when Ready is true.
	Ready    bool     `json:"ready"`
	NotReady []string `json:"notReady,omitempty"`

	Kubernetes  Kubernetes   `json:"kubernetes"`
	Datapath    *Datapath    `json:"datapath,omitempty"` // nil until it is open
	IPAM        *IPAM        `json:"ipam,omitempty"`     // nil until the node has a podCIDR
	Endpoints   int          `json:"endpoints"`
	CNI         CNI          `json:"cni"`
	Reconcilers []Reconciler `json:"reconcilers"` // sorted by name
	Warnings    []string     `json:"warnings,omitempty"`
}

// Kubernetes is the API server as the agent sees it.
type Kubernetes struct {
	Server    string `json:"server"`            // the URL in use
	Version   string `json:"version,omitempty"` // empty until it answered once
	Reachable bool   `json:"reachable"`
	Error     string `json:"error,omitempty"` // why it is not reachable
	Nodes     int    `json:"nodes"`           // nodes in the cache
}

// Datapath is the node's data plane, read back from links, programs, maps,
// routes and rules.
type Datapath struct {
	Mode         string       `json:"mode"`       // kubeproxy
	AttachMode   string       `json:"attachMode"` // tcx
	NodeIP       netip.Addr   `json:"nodeIP"`
	PodCIDR      netip.Prefix `json:"podCIDR"`
	Router       netip.Addr   `json:"router"`
	MTU          int          `json:"mtu"`
	Devices      []string     `json:"devices"` // the NICs, sorted
	Routing      Routing      `json:"routing"`
	Masquerading Masquerading `json:"masquerading"`
	Programs     []Program    `json:"programs"` // sorted by name
	Maps         []Map        `json:"maps"`     // sorted by name
	Sysctls      []Sysctl     `json:"sysctls"`  // sorted by name
	// MonitorAggregation says how much of the traffic becomes events.
	MonitorAggregation string `json:"monitorAggregation"`
}

// Routing says how packets leave for other nodes (Network: native) and
// whether the node's own stack is in their way (Host: legacy).
type Routing struct {
	Network string      `json:"network"`
	Host    string      `json:"host"`
	Reason  string      `json:"reason,omitempty"` // why Host is not what was asked for
	Routes  []NodeRoute `json:"routes"`           // routes to other nodes' pods, sorted by destination
	// Skipped are nodes that get no route, with the reason, sorted.
	Skipped []string `json:"skipped,omitempty"`
}

// NodeRoute is one route to another node's pods.
type NodeRoute struct {
	PodCIDR netip.Prefix `json:"podCIDR"`
	Via     netip.Addr   `json:"via"`
	Device  string       `json:"device"`
}

// Masquerading says what gives packets of pods the node's address.
type Masquerading struct {
	Mode       string       `json:"mode"` // iptables | disabled
	NativeCIDR netip.Prefix `json:"nativeCIDR,omitzero"`
}

// Program is a loaded BPF program and what it is attached to.
type Program struct {
	Name     string `json:"name"`
	ID       uint32 `json:"id"`
	Attached int    `json:"attached"` // number of links
}

// Map is a BPF map and how full it is.
type Map struct {
	Name    string `json:"name"`
	Entries int    `json:"entries"` // -1 where counting has no meaning (ring buffer, per-CPU array)
	Max     int    `json:"max"`
	Bytes   int64  `json:"bytes"` // kernel memory
}

// Sysctl is a kernel setting the datapath depends on.
type Sysctl struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// IPAM is the pool of the node's pod addresses. Capacity leaves out the
// network, router and broadcast addresses.
type IPAM struct {
	Mode     string       `json:"mode"` // kubernetes
	CIDR     netip.Prefix `json:"cidr"`
	Used     int          `json:"used"`
	Capacity int          `json:"capacity"`
}

// CNI is the state of the plugin's side of the agent.
type CNI struct {
	Serving bool   `json:"serving"` // cni.sock answers ADD
	Config  string `json:"config"`  // path on the node
	Written bool   `json:"written"` // the configuration is in place
}

// Reconciler is the health of one control loop of the agent.
type Reconciler struct {
	Name                string    `json:"name"`
	Healthy             bool      `json:"healthy"` // succeeded once and the latest run did not fail
	LastSuccess         time.Time `json:"lastSuccess,omitzero"`
	LastError           string    `json:"lastError,omitempty"` // kept after a later success
	LastErrorAt         time.Time `json:"lastErrorAt,omitzero"`
	ConsecutiveFailures int       `json:"consecutiveFailures"`
	Runs                uint64    `json:"runs"`
}

// Endpoint is one pod interface on the node.
type Endpoint struct {
	ID        uint32     `json:"id"`
	Namespace string     `json:"namespace"`
	Pod       string     `json:"pod"`
	Addr      netip.Addr `json:"addr"`
	IfName    string     `json:"ifName"`    // in the pod
	HostIf    string     `json:"hostIf"`    // lxc…, on the node
	HostIndex int        `json:"hostIndex"` // ifindex of HostIf
	HostMAC   string     `json:"hostMAC"`
	PodMAC    string     `json:"podMAC"`
	MTU       int        `json:"mtu"`
}
