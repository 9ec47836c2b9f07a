// Package settings is the one vocabulary of settings: what a key is ([Key]), and the keys of a cluster's network
// ([Network]) with what is wrong with them ([Network.Validate]) and what they amount to ([Network.Roles]). Profiles, the
// chart's values, the agent's configuration and the data plane all speak it.
//
// It imports nothing else of this module.
package settings

import (
	"cmp"
	"net/netip"
	"reflect"
	"strings"
	"time"
)

// Words that settings take and that other packages branch on.
const (
	RoutingNative      = "native"
	RoutingTunnel      = "tunnel"
	TunnelVXLAN        = "vxlan"
	TunnelGeneve       = "geneve"
	IPAMKubernetes     = "kubernetes"
	IPAMClusterPool    = "cluster-pool"
	AggregationNone    = "none"    // every packet is reported, where a program gets it and where it goes
	AggregationMedium  = "medium"  // dropped packets are, and of each flow its start, first reply, end, and every 5 s
	AggregationMaximum = "maximum" // dropped packets are
	VerboseDatapath    = "datapath"
)

// Groups of metrics that are made of flows.
const (
	FlowMetricsDrop  = "drop"
	FlowMetricsTCP   = "tcp"
	FlowMetricsFlow  = "flow"
	FlowMetricsPorts = "port-distribution"
	FlowMetricsICMP  = "icmp"
)

// Bounds of BPF.CTMax. A flow takes about 300 bytes of kernel memory, whether it is there or not.
const (
	MinFlows = 4096
	MaxFlows = 4 << 20
)

// MaxFlowRecords bounds Flows.Capacity: that many take some 40 MiB.
const MaxFlowRecords = 65536

// Bounds of BPF.MonitorPayload: the headers of TCP over IPv4 and Ethernet, and what an event has room for.
const (
	MinPayload = 54
	MaxPayload = 1024
)

// Network is how a cluster's network works. The json and yaml tags are the keys; [NetworkRows] says what they mean.
type Network struct {
	// RoutingMode is [RoutingNative] or [RoutingTunnel].
	RoutingMode string `json:"routingMode" yaml:"routingMode"`
	// TunnelProtocol is [TunnelVXLAN] or [TunnelGeneve], whether or not RoutingMode has a tunnel.
	TunnelProtocol string `json:"tunnelProtocol" yaml:"tunnelProtocol"`
	// TunnelPort is the UDP port that the nodes' tunnels are at; 0: the protocol's own.
	TunnelPort           int  `json:"tunnelPort" yaml:"tunnelPort"`
	AutoDirectNodeRoutes bool `json:"autoDirectNodeRoutes" yaml:"autoDirectNodeRoutes"`
	// IPv4NativeRoutingCIDR contains all podCIDRs. It is the zero Prefix when none
	// is set, which is possible only with EnableIPv4Masquerade off.
	IPv4NativeRoutingCIDR netip.Prefix `json:"ipv4NativeRoutingCIDR" yaml:"ipv4NativeRoutingCIDR"`
	// KubeProxyReplacement has BPF carry Services. No kube-proxy may run then.
	KubeProxyReplacement bool `json:"kubeProxyReplacement" yaml:"kubeProxyReplacement"`
	EnableIPv4Masquerade bool `json:"enableIPv4Masquerade" yaml:"enableIPv4Masquerade"`
	BPF                  BPF  `json:"bpf" yaml:"bpf"`
	// InstallNoConntrackIptablesRules keeps traffic between pods untracked where Services are in BPF.
	InstallNoConntrackIptablesRules bool `json:"installNoConntrackIptablesRules" yaml:"installNoConntrackIptablesRules"`
	IPAM                            IPAM `json:"ipam" yaml:"ipam"`
	// MTU is that of pod interfaces in bytes; 0: that of the node's network device.
	MTU int `json:"mtu" yaml:"mtu"`
	// Devices are the node's network devices; empty: all that connect the node with others, as they come and go.
	Devices []string `json:"devices" yaml:"devices"`
	Labels  Labels   `json:"labels" yaml:"labels"`
	Flows   Flows    `json:"flows" yaml:"flows"`
	Debug   Debug    `json:"debug" yaml:"debug"`
}

// BPF are the settings of the BPF programs.
type BPF struct {
	// MonitorAggregation is [AggregationNone], [AggregationMedium] or [AggregationMaximum].
	MonitorAggregation string `json:"monitorAggregation" yaml:"monitorAggregation"`
	// MonitorPayload is how many bytes of a packet are reported.
	MonitorPayload int `json:"monitorPayload" yaml:"monitorPayload"`
	// Masquerade is done in BPF, where it is done at all, instead of in iptables.
	Masquerade bool `json:"masquerade" yaml:"masquerade"`
	// HostLegacyRouting keeps the node's IP stack in the way where BPF could route.
	HostLegacyRouting bool `json:"hostLegacyRouting" yaml:"hostLegacyRouting"`
	// AllowFallback does so on kernels that cannot route in BPF.
	AllowFallback bool `json:"allowFallback" yaml:"allowFallback"`
	// CTMax is how many flows a node remembers.
	CTMax int `json:"ctMax" yaml:"ctMax"`
}

// IPAM says where pod addresses come from.
type IPAM struct {
	// Mode is [IPAMKubernetes] or [IPAMClusterPool].
	Mode     string       `json:"mode" yaml:"mode"`
	Operator IPAMOperator `json:"operator" yaml:"operator"`
}

// IPAMOperator is what the operator gives podCIDRs out of where IPAM.Mode is [IPAMClusterPool].
type IPAMOperator struct {
	// ClusterPoolIPv4PodCIDRList are IPv4 CIDRs; see [IPAMOperator.Pool].
	ClusterPoolIPv4PodCIDRList []string `json:"clusterPoolIPv4PodCIDRList" yaml:"clusterPoolIPv4PodCIDRList"`
	// ClusterPoolIPv4MaskSize is the length of the podCIDRs.
	ClusterPoolIPv4MaskSize int `json:"clusterPoolIPv4MaskSize" yaml:"clusterPoolIPv4MaskSize"`
}

// Pool is the list as CIDRs, without what is none.
func (o IPAMOperator) Pool() (pool []netip.Prefix) {
	for _, item := range o.ClusterPoolIPv4PodCIDRList {
		if p, wrong := parsePrefix(item); wrong == nil && item != "" {
			pool = append(pool, p.(netip.Prefix))
		}
	}
	return pool
}

// Labels says which labels of pods are part of their identity. Items are keys, or the beginning of keys with "*" behind
// it.
type Labels struct {
	Include []string `json:"include" yaml:"include"`
	Exclude []string `json:"exclude" yaml:"exclude"`
}

// Flows says which flows agents keep to be asked for, and what they count of them.
type Flows struct {
	// Capacity is how many a node keeps; 0: none, and nothing is read for them.
	Capacity int `json:"capacity" yaml:"capacity"`
	// Metrics are the groups of metrics that are made of flows; empty: none.
	Metrics []string `json:"metrics" yaml:"metrics"`
	Relay   Relay    `json:"relay" yaml:"relay"`
}

// Relay says whether one place of the cluster tells the flows of all nodes.
type Relay struct {
	Enabled bool `json:"enabled" yaml:"enabled"`
	// TLS makes the relay answer only who has a certificate of its CA.
	TLS bool `json:"tls" yaml:"tls"`
	// AgentPort is where agents answer the relay: TCP, on the node's address.
	AgentPort int `json:"agentPort" yaml:"agentPort"`
}

// Debug makes the agent talk more.
type Debug struct {
	Enabled bool `json:"enabled" yaml:"enabled"`
	// Verbose is empty or [VerboseDatapath].
	Verbose string `json:"verbose" yaml:"verbose"`
}

// Datapath says whether the BPF programs report every step of what they decide.
func (d Debug) Datapath() bool { return d.Enabled && d.Verbose == VerboseDatapath }

const (
	// TunnelOverhead is what a tunnel adds to a packet: IPv4, UDP, VXLAN or Geneve without options, and Ethernet.
	TunnelOverhead = 20 + 8 + 8 + 14
	// MinMTU is what every host takes, in bytes (RFC 791).
	MinMTU = 576
)

// Tunnel is by which protocol and UDP port packets go to other nodes' pods; not ok where they go as they are.
func (n Network) Tunnel() (protocol string, port int, ok bool) {
	if n.RoutingMode != RoutingTunnel {
		return "", 0, false
	}
	own := map[string]int{TunnelVXLAN: 8472, TunnelGeneve: 6081}[n.TunnelProtocol]
	return n.TunnelProtocol, cmp.Or(n.TunnelPort, own), true
}

// PodMTU is how many bytes a packet of a pod may have that leaves its node, where its interface takes mtu.
func (n Network) PodMTU(mtu int) int {
	if _, _, ok := n.Tunnel(); ok {
		return mtu - TunnelOverhead
	}
	return mtu
}

// Keys are the keys of a [Network] that stands by itself: in the chart's values and in the agent's configuration.
func Keys() *Key { return NewTree(NetworkRows(""), reflect.TypeFor[Network]()) }

// Default is the network that nobody has set anything of. It has no native-routing CIDR, which masquerading needs.
func Default() Network {
	var n Network
	Keys().SetDefaults(&n)
	return n
}

// Join is the path of key in the section at, which is empty for the document itself.
func Join(at, key string) string {
	if at == "" || key == "" {
		return at + key
	}
	return at + "." + key
}

// Duration is a [time.Duration] written as in "90s" or "1m30s".
type Duration struct{ time.Duration }

// String is short: 1m rather than 1m0s. [time.ParseDuration] reads it.
func (d Duration) String() string {
	s := d.Duration.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText writes d as String does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what [time.ParseDuration] reads.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	d.Duration = parsed
	return err
}
