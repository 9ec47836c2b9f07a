package verify

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"k8s.io/client-go/kubernetes"

	"wirelab.dev/wirelab/internal/docker"
)

// Config says which lab to look at and how to reach into it.
type Config struct {
	Lab  string
	Mode string // of the profile: "kubeproxy", "kubeproxy-replacement" or "ebpf"
	// Kube is the lab's API server, Pods reaches into its pods, and Engine runs
	// its nodes.
	Kube   kubernetes.Interface
	Pods   PodExec
	Engine Engine
	// Image is the nettool image as the nodes have it, with its tag.
	Image string
	// Nettool is the static nettool binary, put on nodes and on the outside
	// host for as long as a run lasts.
	Nettool []byte
	// Masquerade is who gives pods' packets their node's address when they
	// leave NativeCIDR: one of the constants below.
	Masquerade string
	// NativeCIDR is what the profile calls ipv4NativeRoutingCIDR: inside it pods
	// keep their own address. ServiceCIDR is the cluster's Service subnet.
	NativeCIDR  netip.Prefix
	ServiceCIDR netip.Prefix
	// MTU is the profile's; 0 means that of the node's NIC.
	MTU int
	// Demo is nil where the profile deploys none.
	Demo *Demo

	Parallel     int           // checks at once; 0 means DefaultParallel
	CheckTimeout time.Duration // of each check; 0 means DefaultCheckTimeout
	SetupTimeout time.Duration // 0 means DefaultSetupTimeout
	// Progress, if set, is told what happens, one call at a time.
	Progress func(Progress)
	Log      *slog.Logger // nil: nothing is logged
}

// Values of Config.Masquerade.
const (
	NoMasquerade       = ""
	MasqueradeIPTables = "iptables"
	MasqueradeBPF      = "BPF"
)

// Defaults of [Config]. Checks mostly wait, so more of them than there are
// cores make sense.
const (
	DefaultParallel     = 6
	DefaultCheckTimeout = 20 * time.Second
	DefaultSetupTimeout = 40 * time.Second
)

// Demo names the lab's demo Service.
type Demo struct {
	Namespace, Service, Headless string
	Port, NodePort               uint16
}

// Progress is one step of a run. Done of Total checks have ended; Result is
// set for a check that just did. Before and after the checks Result is nil and
// Step says what is being prepared or removed.
type Progress struct {
	Step        string
	Done, Total int
	Result      *Result
}

// PodExec runs a command in a container of a pod and returns when it has
// ended. A command that ends with a status other than 0 is an error.
type PodExec interface {
	ExecPod(ctx context.Context, namespace, pod, container string, argv []string, stdin io.Reader, stdout, stderr io.Writer) error
}

// Engine is the container engine that runs the lab's nodes; [docker.Engine]
// is one.
type Engine interface {
	Containers(ctx context.Context, labels ...string) ([]docker.Found, error)
	Run(ctx context.Context, spec docker.RunSpec) (*docker.Container, error)
	RemoveContainer(ctx context.Context, nameOrID string) error
	WriteFile(ctx context.Context, nameOrID, file string, content []byte) error
	ExecStream(ctx context.Context, container string, stdin io.Reader, stdout, stderr io.Writer, cmd ...string) (int, error)
}

func (c Config) withDefaults() Config {
	if c.Parallel == 0 {
		c.Parallel = DefaultParallel
	}
	if c.CheckTimeout == 0 {
		c.CheckTimeout = DefaultCheckTimeout
	}
	if c.SetupTimeout == 0 {
		c.SetupTimeout = DefaultSetupTimeout
	}
	c.Progress = oneAtATime(c.Progress)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}
