package api

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"
)

// Status is what one agent knows of its node. All that describes the kernel
// is read back from the kernel when it is asked for; nothing is echoed from
// the settings, except where a field is named Requested.
type Status struct {
	Version string    `json:"version"`
	Kernel  string    `json:"kernel,omitempty"` // the node's, as uname -r has it
	Node    string    `json:"node"`
	Cluster string    `json:"cluster,omitempty"`
	Started time.Time `json:"started"`

	// Ready means that pods on this node work: the datapath is open, every
	// reconciler has succeeded once and is not failing, the CNI socket is
	// served and the CNI configuration is written. NotReady lists what is
	// missing, a sentence each; it is empty exactly when Ready is true.
	Ready    bool     `json:"ready"`
	NotReady []string `json:"notReady,omitempty"`

	Kubernetes Kubernetes `json:"kubernetes"`
	Datapath   *Datapath  `json:"datapath,omitempty"` // nil until it is open
	IPAM       *IPAM      `json:"ipam,omitempty"`     // nil until the node has a podCIDR
	Endpoints  int        `json:"endpoints"`
	// Identities is how many sets of labels of pods have a number, as far as the node knows; nil until it knows.
	Identities  *int         `json:"identities,omitempty"`
	CNI         CNI          `json:"cni"`
	Reconcilers []Reconciler `json:"reconcilers"` // sorted by name
	// ClusterHealth is nil where it is switched off or not known yet. It has
	// no say in Ready.
	ClusterHealth *ClusterHealth `json:"clusterHealth,omitempty"`
	Warnings      []string       `json:"warnings,omitempty"`
	// Flows is how the buffer of flow records is; nil where none are kept.
	Flows *FlowsKept `json:"flows,omitempty"`
	// NetworkPolicies is how many the cluster has, of which none is enforced;
	// nil until that is known.
	NetworkPolicies *int `json:"networkPolicies,omitempty"`
	// LeftOut is what the node does not carry of Services and of its pods'
	// host ports, sorted. All else is carried as if it were not there.
	LeftOut []LeftOut `json:"leftOut,omitempty"`
}

// LeftOut is an object, or a part of one, that the node does not carry.
type LeftOut struct {
	Kind      string `json:"kind"` // LeftOutService | LeftOutPod
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Reason    string `json:"reason"`  // in a word: NotCarried, NoRoom, …
	Message   string `json:"message"` // what is left out and why, in half a sentence
}

// What something is left out of: the Service, or the pod that wants a host port.
const (
	LeftOutService = "Service"
	LeftOutPod     = "Pod"
)

// String is the object and the message.
func (l LeftOut) String() string {
	return fmt.Sprintf("%s %s/%s: %s", l.Kind, l.Namespace, l.Name, l.Message)
}

// Compare orders them by their objects.
func (l LeftOut) Compare(o LeftOut) int {
	return cmp.Or(cmp.Compare(l.Kind, o.Kind), cmp.Compare(l.Namespace, o.Namespace), cmp.Compare(l.Name, o.Name),
		cmp.Compare(l.Reason, o.Reason), cmp.Compare(l.Message, o.Message))
}

// Kubernetes is the API server as the agent sees it.
type Kubernetes struct {
	Server    string `json:"server"`            // the URL in use
	Version   string `json:"version,omitempty"` // empty until it answered once
	Reachable bool   `json:"reachable"`
	Error     string `json:"error,omitempty"` // why it is not reachable
	Nodes     int    `json:"nodes"`           // nodes in the cache
	// APIs are the kinds of objects that the agent watches, sorted.
	APIs []string `json:"apis,omitempty"`
}

// Datapath is the node's data plane, read back from links, programs, maps,
// routes and rules.
type Datapath struct {
	Mode         string       `json:"mode"`       // kubeproxy | kubeproxy-replacement | ebpf
	AttachMode   string       `json:"attachMode"` // tcx | clsact, on kernels before 6.6
	NodeIP       netip.Addr   `json:"nodeIP"`
	PodCIDR      netip.Prefix `json:"podCIDR"`
	Router       netip.Addr   `json:"router"`
	MTU          int          `json:"mtu"`
	Devices      []Device     `json:"devices"` // NICs and devices of ours
	Routing      Routing      `json:"routing"`
	Masquerading Masquerading `json:"masquerading"`
	// Untracked says that traffic between pods is kept out of the kernel's
	// connection tracking. StatefulFirewall are rules of the node that let
	// forwarded packets pass by their connection's state, which untracked
	// ones do not have, where others are dropped.
	Untracked        bool     `json:"untracked"`
	StatefulFirewall []string `json:"statefulFirewall,omitempty"`
	// Services is nil when they are left to kube-proxy.
	Services  *Services `json:"services,omitempty"`
	HostPorts int       `json:"hostPorts"`
	Programs  []Program `json:"programs"`
	Maps      []Map     `json:"maps"`
	Sysctls   []Sysctl  `json:"sysctls"`
	// MonitorAggregation says how many of the packets become events: none
	// of them is left out, or (maximum) all but the dropped ones.
	MonitorAggregation string  `json:"monitorAggregation"`
	Monitor            Monitor `json:"monitor"`
	// Error is what could not be read back; what is missing for it is zero.
	Error string `json:"error,omitempty"`
}

// Monitor is how events are handed out.
type Monitor struct {
	CPUs      int    `json:"cpus"`      // that have events
	RingBytes int    `json:"ringBytes"` // of the one ring for all of them
	Listeners int    `json:"listeners"` // programs write events while there are any
	Lost      uint64 `json:"lost"`      // events that found the ring full, since the maps were made
}

// Device is a NIC or a device of ours on the node.
type Device struct {
	Name  string         `json:"name"`
	Index int            `json:"index"`
	MTU   int            `json:"mtu"`
	Up    bool           `json:"up"`
	Addrs []netip.Prefix `json:"addrs,omitempty"`
}

// Routing says how packets leave for other nodes (Network: native or tunnel) and
// whether the node's own stack is in their way (Host: Legacy) or not (BPF).
type Routing struct {
	Network string `json:"network"`
	Host    string `json:"host"`
	Reason  string `json:"reason,omitempty"` // why Host is Legacy, as "needs BPF masquerade"; more than one are joined by "; "
	// Requested is what the settings ask Host to be: BPF or Legacy. It
	// differs from Host where the kernel cannot and falling back is allowed.
	Requested string      `json:"hostRequested,omitempty"`
	Routes    []NodeRoute `json:"routes,omitempty"` // to other nodes' pods, sorted
	// Skipped are nodes that got no route since they are not on the same
	// L2, sorted by name.
	Skipped []string `json:"skipped,omitempty"`
	// Tunnel is nil where Network is native.
	Tunnel *Tunnel `json:"tunnel,omitempty"`
}

// Tunnel is the device by which other nodes' pods are reached.
type Tunnel struct {
	Protocol string `json:"protocol"` // vxlan | geneve
	Port     int    `json:"port"`     // UDP
	Device   string `json:"device"`
	MTU      int    `json:"mtu"` // of what goes through it
}

// TunnelEnd is where packets to a podCIDR come out of the tunnel.
type TunnelEnd struct {
	PodCIDR netip.Prefix `json:"podCIDR"`
	Node    netip.Addr   `json:"node"`
}

// NodeRoute is one route to another node's pods.
type NodeRoute struct {
	PodCIDR netip.Prefix `json:"podCIDR"`
	Via     netip.Addr   `json:"via"`
	Device  string       `json:"device"`
}

// Masquerading says what gives packets of pods the node's address.
type Masquerading struct {
	Enabled    bool         `json:"enabled"`
	Kind       string       `json:"kind,omitempty"`    // BPF | iptables
	Backend    string       `json:"backend,omitempty"` // of iptables: nf_tables | legacy
	Devices    []string     `json:"devices,omitempty"` // of BPF: the NICs it is done at
	NativeCIDR netip.Prefix `json:"nativeCIDR,omitzero"`
}

// Program is a loaded BPF program, the hook of devices that it is at, and the devices, sorted.
type Program struct {
	Name       string   `json:"name"`
	ID         uint32   `json:"id"`
	Tag        string   `json:"tag"`
	Hook       string   `json:"hook"` // tcx ingress | tcx egress, with clsact in the place of tcx on kernels before 6.6
	AttachedTo []string `json:"attachedTo,omitempty"`
}

// Map is a pinned BPF map and how full it is.
type Map struct {
	Name        string `json:"name"`
	ID          uint32 `json:"id"`
	Entries     int    `json:"entries"` // -1 where there are none to count
	MaxEntries  int    `json:"maxEntries"`
	MemoryBytes uint64 `json:"memoryBytes"`
}

// Sysctl is a kernel setting the datapath keeps. Found is the value from
// before the agent came.
type Sysctl struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Found string `json:"found"`
}

// IPAM is the pool of the node's pod addresses. Capacity leaves out the
// network, router and broadcast addresses.
type IPAM struct {
	Mode string `json:"mode"` // kubernetes | cluster-pool
	// Pool is what the operator gives podCIDRs out of, each with MaskSize
	// bits; empty where Kubernetes gives them.
	Pool     []string     `json:"pool,omitempty"`
	MaskSize int          `json:"maskSize,omitempty"`
	CIDR     netip.Prefix `json:"cidr"`
	Used     int          `json:"used"`
	Capacity int          `json:"capacity"`
	// Resting are free, and handed out again when they have rested or no others are left.
	Resting int `json:"resting,omitempty"`
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
	// PausedUntil is set while it does not run because somebody wants it so.
	PausedUntil time.Time `json:"pausedUntil,omitzero"`
}

// Endpoint is one pod interface on the node. Of one whose host-side veth is
// gone, Namespace, Pod, HostIndex and MTU are not known.
type Endpoint struct {
	ID        uint32     `json:"id"`        // unique on the node, the same after a restart: the address's place in the podCIDR
	Namespace string     `json:"namespace"` // with Pod, as far as the veth's alias has room for them: 255 bytes
	Pod       string     `json:"pod"`
	Addr      netip.Addr `json:"addr"`
	HostIf    string     `json:"hostIf"`    // lxc…, on the node
	HostIndex int        `json:"hostIndex"` // ifindex of HostIf
	HostMAC   MAC        `json:"hostMAC"`   // the pod's next hop
	PodMAC    MAC        `json:"podMAC"`
	MTU       int        `json:"mtu"`
	Identity  uint32     `json:"identity"` // 0: not known yet
	Attached  bool       `json:"attached"` // the program now loaded is on HostIf
}
