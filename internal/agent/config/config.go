// Package config is what an agent is told by its ConfigMap and environment.
package config

import (
	"path/filepath"
	"reflect"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/settings"
)

// Config is all settings of one agent: those of the network, which stand at the top of the file as they do in the chart's
// values, and the agent's own.
type Config struct {
	// NodeName is this node's name in Kubernetes. Required.
	NodeName string `json:"nodeName"`
	// ClusterName is shown in the status and used for nothing else.
	ClusterName string `json:"clusterName"`
	// Kubeconfig is the path of a kubeconfig; empty means the service
	// account of the pod the agent runs in.
	Kubeconfig string `json:"kubeconfig"`
	// DaemonSet is the agent's own, as namespace/name. An agent that is
	// stopped after it was deleted cleans its node. Empty means never.
	DaemonSet string `json:"daemonSet"`

	settings.Network

	Prometheus    Prometheus    `json:"prometheus"`
	Health        Health        `json:"health"`
	ClusterHealth ClusterHealth `json:"clusterHealth"`
	Paths         Paths         `json:"paths"`
}

// Prometheus says where metrics are served.
type Prometheus struct {
	Enabled bool `json:"enabled"`
	Port    int  `json:"port"` // on every address of the node
}

// Health says where the kubelet's probes are answered.
type Health struct {
	Port int `json:"port"` // on 127.0.0.1
}

// ClusterHealth says whether the agents probe each other, and where they
// answer.
type ClusterHealth struct {
	Enabled bool `json:"enabled"`
	Port    int  `json:"port"` // TCP, on the node's address and the health endpoint's; the same on all nodes
}

// Paths are where things are on the node or, of HostRoot, BPFFS, Proc and
// RunDir, where the agent sees them.
type Paths struct {
	// HostRoot is where the node's root is mounted; empty when the agent
	// runs on the node itself. CNIConfDir and CNIBinDir are below it.
	HostRoot string `json:"hostRoot"`
	BPFFS    string `json:"bpffs"`
	Proc     string `json:"proc"` // the writable /proc/sys
	// CgroupRoot is the root of the node's cgroup2 hierarchy; empty means
	// that the agent looks for it. Only Services in BPF need it.
	CgroupRoot string `json:"cgroupRoot"`
	RunDir     string `json:"runDir"`
	CNIConfDir string `json:"cniConfDir"`
	CNIBinDir  string `json:"cniBinDir"`
	// CNIPlugin is the plugin's binary in the agent's image.
	CNIPlugin string `json:"cniPlugin"`
	// RelayTLS is a directory with the certificate that the agent shows wirelab-relay.
	RelayTLS string `json:"relayTLS"`
}

// AgentSocket is where the agent's HTTP API listens.
func (p Paths) AgentSocket() string { return filepath.Join(p.RunDir, filepath.Base(api.AgentSocket)) }

// CNISocket is where the CNI plugin finds the agent.
func (p Paths) CNISocket() string { return filepath.Join(p.RunDir, filepath.Base(api.CNISocket)) }

// Lock is the file that the one agent running on a node holds locked.
func (p Paths) Lock() string { return filepath.Join(p.RunDir, "agent.lock") }

// Default returns the settings that nobody set.
func Default() Config {
	var c Config
	keys().SetDefaults(&c)
	return c
}

// keys are those of the file.
func keys() *settings.Key {
	const lastPort = 65535
	rows := []settings.Row{
		{Path: "nodeName"},
		{Path: "clusterName"},
		{Path: "kubeconfig"},
		{Path: "daemonSet"},
		{Path: "prometheus"},
		{Path: "prometheus.enabled", Default: "true"},
		{Path: "prometheus.port", Default: "9962", Min: 1, Max: lastPort},
		{Path: "health"},
		{Path: "health.port", Default: "9879", Min: 1, Max: lastPort},
		{Path: "clusterHealth"},
		{Path: "clusterHealth.enabled", Default: "true"},
		{Path: "clusterHealth.port", Default: "4240", Min: 1, Max: lastPort},
		{Path: "paths"},
		{Path: "paths.hostRoot"},
		{Path: "paths.bpffs", Default: "/sys/fs/bpf"},
		{Path: "paths.proc", Default: "/proc/sys"},
		{Path: "paths.cgroupRoot"},
		{Path: "paths.runDir", Default: api.RunDir},
		{Path: "paths.cniConfDir", Default: "/etc/cni/net.d"},
		{Path: "paths.cniBinDir", Default: "/opt/cni/bin"},
		{Path: "paths.cniPlugin", Default: "/usr/bin/wirelab-cni"},
		{Path: "paths.relayTLS", Default: "/etc/wirelab-relay-tls"},
	}
	return settings.NewTree(append(rows, settings.NetworkRows("")...), reflect.TypeFor[Config]())
}
