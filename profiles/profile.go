// Package profiles holds what a person says about a lab: the [Profile] type, its
// strict loading and validation, the profiles shipped with the binary, and what a
// profile leads to: a kind cluster configuration and the values of the chart.
//
// What a network can be set to is in [settings.Network]; of this module it imports nothing else.
package profiles

import (
	"net/netip"

	"wirelab.dev/wirelab/internal/settings"
)

// APIVersion and Kind are what every profile file declares at its top.
const (
	APIVersion = "wirelab.dev/v1alpha1"
	Kind       = "Profile"
)

// How kube-proxy works in a profile: cluster.kubeProxyMode.
const (
	KubeProxyIPTables = "iptables"
	KubeProxyNone     = "none"
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
	// Network has KubeProxyReplacement set exactly when Cluster.KubeProxyMode is [KubeProxyNone].
	Network settings.Network `json:"network" yaml:"network"`
	Demo    Demo             `json:"demo" yaml:"demo"`
	Verify  Verify           `json:"verify" yaml:"verify"`
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
	Timeout settings.Duration `json:"timeout" yaml:"timeout"`
	// Skip are patterns of checks' names, without duplicates; may be empty.
	Skip []string `json:"skip" yaml:"skip"`
}

// Mode says what the network's settings amount to, on a kernel that can do it.
func (p *Profile) Mode() settings.Mode { return p.Network.Roles().Mode() }

// Nodes is the number of the cluster's nodes.
func (p *Profile) Nodes() int { return p.Cluster.ControlPlanes + p.Cluster.Workers }
