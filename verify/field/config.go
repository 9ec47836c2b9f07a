package field

import (
	"context"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"

	"k8s.io/client-go/kubernetes"

	"wirelab.dev/wirelab/internal/docker"
	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/probe"
)

// Config says which lab to look at and how to reach into it.
type Config struct {
	verify.Config
	// Kube is the lab's API server, Pods reaches into its pods, and Engine runs
	// its nodes.
	Kube   kubernetes.Interface
	Pods   PodExec
	Engine Engine
	// Image gives the nettool image to the nodes that lack it, and returns its
	// name with the tag. It is called where pods are to be made.
	Image func(context.Context) (string, error)
	// Begun is set where [Begin] has made the pods and Services of this run, and
	// no run was before it.
	Begun bool
	// Nettool is the static nettool binary, put on nodes and on the outside
	// host for as long as a run lasts.
	Nettool []byte
	// NativeCIDR is what the profile calls ipv4NativeRoutingCIDR: inside it pods
	// keep their own address. ServiceCIDR is the cluster's Service subnet.
	NativeCIDR  netip.Prefix
	ServiceCIDR netip.Prefix
	// LabNodes says what each node tells of itself, by its name; nil: nodes have the
	// pod CIDRs that Kubernetes gave them. Pool is what contains these; empty where
	// that is not to be so.
	LabNodes func(context.Context) (map[string]LabNode, error)
	Pool     []netip.Prefix
	// MTU is the profile's; 0 means that of the node's NIC.
	MTU int
	// Tunnel is where other nodes' pods are reached by one; nil where they are not.
	Tunnel *Tunnel
	// Demo is nil where the profile deploys none.
	Demo *Demo
	Log  *slog.Logger // nil: nothing is logged
}

// LabNode is what a node tells of itself.
type LabNode struct {
	// PodCIDR is what its pods have their addresses from; not valid where it has none yet.
	PodCIDR netip.Prefix
	// Endpoints are the identities of whoever has them.
	Endpoints map[netip.Addr]uint32
}

// Tunnel is what nodes reach each other's pods by.
type Tunnel struct {
	probe.Tunnel
	Device string
}

// TunnelOverhead is what a tunnel adds to a packet: IPv4, UDP, VXLAN or Geneve without options, and Ethernet.
const TunnelOverhead = 20 + 8 + 8 + 14

// Demo names the lab's demo Service.
type Demo struct {
	Namespace, Service, Headless string
	Port, NodePort               uint16
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
	WriteFile(ctx context.Context, nameOrID, file string, mode fs.FileMode, content []byte) error
	ExecStream(ctx context.Context, container string, stdin io.Reader, stdout, stderr io.Writer, cmd ...string) (int, error)
}

// WithDefaults fills in what is not given.
func (c Config) WithDefaults() Config {
	c.Config = c.Config.WithDefaults()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// KubeProxyReplacement tells whether BPF maps serve Services in place of kube-proxy.
func (c Config) KubeProxyReplacement() bool { return c.Mode != verify.ModeKubeProxy }
