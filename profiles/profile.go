// Package profiles holds what a person says about a lab: the [Profile] type, its
// strict loading and validation, the profiles shipped with the binary, and what a
// profile leads to: a kind cluster configuration and the values of the chart.
//
// It imports nothing else of this module.
package profiles

import (
	"net/netip"
	"strings"
	"time"
)

// APIVersion and Kind are what every profile file declares at its top.
const (
	APIVersion = "wirelab.dev/v1alpha1"
	Kind       = "Profile"
)

// Mode is the datapath that a profile's network settings amount to, spelt as in
// profile names, logs and status.
type Mode string

// Modes there are. In each the node's own IP stack routes and masquerades.
const (
	// ModeKubeProxy leaves Services to kube-proxy.
	ModeKubeProxy Mode = "kubeproxy"
	// ModeReplacement serves Services from BPF maps; there is no kube-proxy.
	ModeReplacement Mode = "kubeproxy-replacement"
	// ModeEBPF routes and masquerades in BPF besides: pod traffic between nodes and to the outside does not
	// enter the nodes' IP stacks.
	ModeEBPF Mode = "ebpf"
)

// Words that settings of a profile take and that other packages branch on.
const (
	RoutingNative     = "native"
	IPAMKubernetes    = "kubernetes"
	KubeProxyIPTables = "iptables"
	KubeProxyNone     = "none"
	VerboseDatapath   = "datapath"
)

// Profile is one lab, described completely. A profile returned by [Load] or [Parse]
// has every default filled in and has passed validation. The order of the fields is
// the order in which they are printed; json and yaml tags are the keys of the file.
type Profile struct {
	APIVersion string   `json:"apiVersion" yaml:"apiVersion"`
	Kind       string   `json:"kind" yaml:"kind"`
	Metadata   Metadata `json:"metadata" yaml:"metadata"`
	// Extends is empty in a loaded profile: what it named has been merged in.
	Extends string  `json:"extends,omitempty" yaml:"extends,omitempty"`
	Cluster Cluster `json:"cluster" yaml:"cluster"`
	Network Network `json:"network" yaml:"network"`
	Demo    Demo    `json:"demo" yaml:"demo"`
	Verify  Verify  `json:"verify" yaml:"verify"`
}

// Metadata names a profile. It is never taken over from an extended profile.
type Metadata struct {
	// Name is a DNS label; a lab is called so unless it is given another name.
	Name string `json:"name" yaml:"name"`
	// Description is one sentence for lists; may be empty.
	Description string `json:"description,omitempty" yaml:"description,omitempty"`
}

// Cluster is the Kubernetes cluster under the network.
type Cluster struct {
	ControlPlanes int `json:"controlPlanes" yaml:"controlPlanes"`
	Workers       int `json:"workers" yaml:"workers"`
	// Image is the node image. Empty: the one that fits this machine is chosen.
	Image         string       `json:"image" yaml:"image"`
	PodSubnet     netip.Prefix `json:"podSubnet" yaml:"podSubnet"`
	ServiceSubnet netip.Prefix `json:"serviceSubnet" yaml:"serviceSubnet"`
	// KubeProxyMode is [KubeProxyIPTables] or [KubeProxyNone].
	KubeProxyMode           string `json:"kubeProxyMode" yaml:"kubeProxyMode"`
	RemoveControlPlaneTaint bool   `json:"removeControlPlaneTaint" yaml:"removeControlPlaneTaint"`
	// APIServerPort is the port on this machine's loopback; 0: any free one.
	APIServerPort int `json:"apiServerPort" yaml:"apiServerPort"`
	// RegistryMirrors has at most one entry per host; may be empty.
	RegistryMirrors []RegistryMirror `json:"registryMirrors" yaml:"registryMirrors"`
}

// RegistryMirror makes every node's containerd ask Endpoint for the images of Host.
type RegistryMirror struct {
	// Host is a registry as it stands in image names: host or host:port.
	Host string `json:"host" yaml:"host"`
	// Endpoint is an http or https URL that the nodes can reach.
	Endpoint string `json:"endpoint" yaml:"endpoint"`
}

// Network is how the cluster's network works.
type Network struct {
	// RoutingMode is [RoutingNative].
	RoutingMode          string `json:"routingMode" yaml:"routingMode"`
	AutoDirectNodeRoutes bool   `json:"autoDirectNodeRoutes" yaml:"autoDirectNodeRoutes"`
	// IPv4NativeRoutingCIDR contains the pod subnet. It is the zero Prefix when none
	// is set, which is possible only with EnableIPv4Masquerade off.
	IPv4NativeRoutingCIDR netip.Prefix `json:"ipv4NativeRoutingCIDR" yaml:"ipv4NativeRoutingCIDR"`
	// KubeProxyReplacement is set exactly when Cluster.KubeProxyMode is [KubeProxyNone].
	KubeProxyReplacement bool `json:"kubeProxyReplacement" yaml:"kubeProxyReplacement"`
	EnableIPv4Masquerade bool `json:"enableIPv4Masquerade" yaml:"enableIPv4Masquerade"`
	BPF                  BPF  `json:"bpf" yaml:"bpf"`
	// InstallNoConntrackIptablesRules keeps traffic between pods untracked where Services are in BPF.
	InstallNoConntrackIptablesRules bool `json:"installNoConntrackIptablesRules" yaml:"installNoConntrackIptablesRules"`
	IPAM                            IPAM `json:"ipam" yaml:"ipam"`
	// MTU is that of pod interfaces in bytes; 0: that of the node's network device.
	MTU int `json:"mtu" yaml:"mtu"`
	// Devices are the node's network devices; empty: the one with the node's address.
	Devices []string `json:"devices" yaml:"devices"`
	Debug   Debug    `json:"debug" yaml:"debug"`
}

// BPF are the settings of the BPF programs.
type BPF struct {
	// MonitorAggregation is "none" or "maximum".
	MonitorAggregation string `json:"monitorAggregation" yaml:"monitorAggregation"`
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
	// Mode is [IPAMKubernetes].
	Mode string `json:"mode" yaml:"mode"`
}

// Debug makes the agent talk more.
type Debug struct {
	Enabled bool `json:"enabled" yaml:"enabled"`
	// Verbose is empty or [VerboseDatapath].
	Verbose string `json:"verbose" yaml:"verbose"`
}

// Demo is the workload a lab starts with.
type Demo struct {
	Enabled bool `json:"enabled" yaml:"enabled"`
	// Port is the Service's, TargetPort the pods', NodePort every node's.
	Port       int `json:"port" yaml:"port"`
	TargetPort int `json:"targetPort" yaml:"targetPort"`
	NodePort   int `json:"nodePort" yaml:"nodePort"`
}

// Verify is how the lab is checked.
type Verify struct {
	// Timeout is for all checks together.
	Timeout Duration `json:"timeout" yaml:"timeout"`
	// Skip are patterns of checks' names, without duplicates; may be empty.
	Skip []string `json:"skip" yaml:"skip"`
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

// Mode says which datapath the network settings amount to, on a kernel that can do it.
func (p *Profile) Mode() Mode {
	n := p.Network
	switch {
	case !n.KubeProxyReplacement:
		return ModeKubeProxy
	case n.BPF.HostLegacyRouting, n.EnableIPv4Masquerade && !n.BPF.Masquerade:
		return ModeReplacement
	}
	return ModeEBPF
}

// Nodes is the number of the cluster's nodes.
func (p *Profile) Nodes() int { return p.Cluster.ControlPlanes + p.Cluster.Workers }
