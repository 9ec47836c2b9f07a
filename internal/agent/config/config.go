// Package config is what an agent is told by its ConfigMap and environment.
package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/api"
)

// Config is all settings of one agent. Keys of the file have the names in the
// tags; those that the chart's values have too mean the same there.
type Config struct {
	// NodeName is this node's name in Kubernetes. Required.
	NodeName string `mapstructure:"nodeName"`
	// ClusterName is shown in the status and used for nothing else.
	ClusterName string `mapstructure:"clusterName"`
	// Kubeconfig is the path of a kubeconfig; empty means the service
	// account of the pod the agent runs in.
	Kubeconfig string `mapstructure:"kubeconfig"`
	// DaemonSet is the agent's own, as namespace/name. An agent that is
	// stopped after it was deleted cleans its node. Empty means never.
	DaemonSet string `mapstructure:"daemonSet"`

	KubeProxyReplacement  string `mapstructure:"kubeProxyReplacement"` // true | strict, false | disabled
	RoutingMode           string `mapstructure:"routingMode"`          // native
	AutoDirectNodeRoutes  bool   `mapstructure:"autoDirectNodeRoutes"`
	IPv4NativeRoutingCIDR string `mapstructure:"ipv4NativeRoutingCIDR"`
	EnableIPv4Masquerade  bool   `mapstructure:"enableIPv4Masquerade"`
	// InstallNoConntrackIptablesRules keeps traffic between pods out of the
	// kernel's connection tracking where the agent carries Services.
	InstallNoConntrackIptablesRules bool `mapstructure:"installNoConntrackIptablesRules"`

	Devices []string `mapstructure:"devices"` // empty: all that connect the node with others
	MTU     int      `mapstructure:"mtu"`     // 0: the NIC's

	BPF        BPF        `mapstructure:"bpf"`
	IPAM       IPAM       `mapstructure:"ipam"`
	Debug      Debug      `mapstructure:"debug"`
	Prometheus Prometheus `mapstructure:"prometheus"`
	Health     Health     `mapstructure:"health"`

	ClusterHealth ClusterHealth `mapstructure:"clusterHealth"`

	Paths Paths `mapstructure:"paths"`
}

// BPF is about the programs.
type BPF struct {
	MonitorAggregation string `mapstructure:"monitorAggregation"` // none | maximum
	// Masquerade has the programs at the NICs masquerade instead of iptables.
	Masquerade bool `mapstructure:"masquerade"`
	// HostLegacyRouting keeps the node's IP stack in the way of pods' packets
	// even where BPF could route them.
	HostLegacyRouting bool `mapstructure:"hostLegacyRouting"`
	// AllowFallback goes on with the node's IP stack on kernels that cannot
	// route in BPF as the settings ask.
	AllowFallback bool `mapstructure:"allowFallback"`
	// CTMax is how many flows the programs remember.
	CTMax int `mapstructure:"ctMax"`
}

// IPAM says where pod addresses come from.
type IPAM struct {
	Mode string `mapstructure:"mode"` // kubernetes: node.spec.podCIDR
}

// Debug says what the agent logs beyond changes of state.
type Debug struct {
	Enabled bool   `mapstructure:"enabled"`
	Verbose string `mapstructure:"verbose"` // datapath: packets that the programs report, too
}

// Prometheus says where metrics are served.
type Prometheus struct {
	Enabled bool `mapstructure:"enabled"`
	Port    int  `mapstructure:"port"` // on every address of the node
}

// Health says where the kubelet's probes are answered.
type Health struct {
	Port int `mapstructure:"port"` // on 127.0.0.1
}

// ClusterHealth says whether the agents probe each other, and where they
// answer.
type ClusterHealth struct {
	Enabled bool `mapstructure:"enabled"`
	Port    int  `mapstructure:"port"` // TCP, on the node's address and the health endpoint's; the same on all nodes
}

// Paths are where things are on the node or, of HostRoot, BPFFS, Proc and
// RunDir, where the agent sees them.
type Paths struct {
	// HostRoot is where the node's root is mounted; empty when the agent
	// runs on the node itself. CNIConfDir and CNIBinDir are below it.
	HostRoot string `mapstructure:"hostRoot"`
	BPFFS    string `mapstructure:"bpffs"`
	Proc     string `mapstructure:"proc"` // the writable /proc/sys
	// CgroupRoot is the root of the node's cgroup2 hierarchy; empty means
	// that the agent looks for it. Only Services in BPF need it.
	CgroupRoot string `mapstructure:"cgroupRoot"`
	RunDir     string `mapstructure:"runDir"`
	CNIConfDir string `mapstructure:"cniConfDir"`
	CNIBinDir  string `mapstructure:"cniBinDir"`
	// CNIPlugin is the plugin's binary in the agent's image.
	CNIPlugin string `mapstructure:"cniPlugin"`
}

// AgentSocket is where the agent's HTTP API listens.
func (p Paths) AgentSocket() string { return filepath.Join(p.RunDir, filepath.Base(api.AgentSocket)) }

// CNISocket is where the CNI plugin finds the agent.
func (p Paths) CNISocket() string { return filepath.Join(p.RunDir, filepath.Base(api.CNISocket)) }

// Lock is the file that the one agent running on a node holds locked.
func (p Paths) Lock() string { return filepath.Join(p.RunDir, "agent.lock") }

// Default returns the settings that nobody set.
func Default() Config {
	return Config{
		KubeProxyReplacement:            "false",
		RoutingMode:                     "native",
		AutoDirectNodeRoutes:            true,
		EnableIPv4Masquerade:            true,
		BPF:                             BPF{MonitorAggregation: string(datapath.AggregationMaximum), CTMax: datapath.DefaultFlows},
		InstallNoConntrackIptablesRules: true,
		IPAM:                            IPAM{Mode: "kubernetes"},
		Prometheus:                      Prometheus{Enabled: true, Port: 9962},
		Health:                          Health{Port: 9879},
		ClusterHealth:                   ClusterHealth{Enabled: true, Port: 4240},
		Paths: Paths{
			BPFFS:      "/sys/fs/bpf",
			Proc:       "/proc/sys",
			RunDir:     api.RunDir,
			CNIConfDir: "/etc/cni/net.d",
			CNIBinDir:  "/opt/cni/bin",
			CNIPlugin:  "/usr/bin/wirelab-cni",
		},
	}
}

// ReplacesKubeProxy says whether the agent carries Services.
func (c Config) ReplacesKubeProxy() bool {
	return c.KubeProxyReplacement == "true" || c.KubeProxyReplacement == "strict"
}

// Mode is the datapath's mode that these settings ask for, whatever the kernel
// can do.
func (c Config) Mode() datapath.Mode {
	if !c.ReplacesKubeProxy() {
		return datapath.ModeKubeProxy
	}
	w := datapath.Wanted{Replacement: true, IPTables: c.EnableIPv4Masquerade && !c.BPF.Masquerade, Legacy: c.BPF.HostLegacyRouting}
	if w.Asked() == datapath.RoutingBPF {
		return datapath.ModeEBPF
	}
	return datapath.ModeKubeProxyReplacement
}

// NativeCIDR is IPv4NativeRoutingCIDR, or the zero Prefix if that is empty.
func (c Config) NativeCIDR() netip.Prefix {
	p, _ := netip.ParsePrefix(c.IPv4NativeRoutingCIDR) // Load has seen to it
	return p
}

// validate reports everything that is wrong at once.
func (c Config) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	oneOf := func(key, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			bad("%s is %q: use %s", key, value, quotedList(allowed))
		}
	}
	if c.NodeName == "" {
		bad("nodeName is empty: set WIRELAB_NODE_NAME to the node's name in Kubernetes")
	}
	switch c.KubeProxyReplacement {
	case "partial", "probe":
		bad("kubeProxyReplacement is %q: half of the Services in BPF and half in kube-proxy would be two translators for one flow; use \"true\" and take kube-proxy away, or \"false\"", c.KubeProxyReplacement)
	default:
		oneOf("kubeProxyReplacement", c.KubeProxyReplacement, "true", "strict", "false", "disabled")
	}
	if c.BPF.Masquerade && !c.ReplacesKubeProxy() {
		bad("bpf.masquerade needs kubeProxyReplacement: where kube-proxy translates Services, only iptables knows which packets it did; set kubeProxyReplacement to true, or bpf.masquerade to false")
	}
	oneOf("routingMode", c.RoutingMode, "native")
	oneOf("ipam.mode", c.IPAM.Mode, "kubernetes")
	oneOf("bpf.monitorAggregation", c.BPF.MonitorAggregation, string(datapath.AggregationNone), string(datapath.AggregationMaximum))
	oneOf("debug.verbose", c.Debug.Verbose, "", "datapath")
	if c.IPv4NativeRoutingCIDR == "" {
		if c.EnableIPv4Masquerade {
			bad("ipv4NativeRoutingCIDR is empty: masquerading needs it to know which addresses pods reach with their own, or set enableIPv4Masquerade to false")
		}
	} else if p, err := netip.ParsePrefix(c.IPv4NativeRoutingCIDR); err != nil || !p.Addr().Is4() {
		bad("ipv4NativeRoutingCIDR is %q: want an IPv4 prefix such as 10.0.0.0/8", c.IPv4NativeRoutingCIDR)
	}
	if c.MTU != 0 && (c.MTU < 576 || c.MTU > 65535) {
		bad("mtu is %d: want 576 to 65535, or 0 for the NIC's", c.MTU)
	}
	if c.BPF.CTMax < datapath.MinFlows || c.BPF.CTMax > datapath.MaxFlows {
		bad("bpf.ctMax is %d: want %d to %d", c.BPF.CTMax, datapath.MinFlows, datapath.MaxFlows)
	}
	for key, port := range map[string]int{
		"prometheus.port": c.Prometheus.Port, "health.port": c.Health.Port, "clusterHealth.port": c.ClusterHealth.Port,
	} {
		if port < 1 || port > 65535 {
			bad("%s is %d: want 1 to 65535", key, port)
		}
	}
	return errors.Join(errs...)
}
