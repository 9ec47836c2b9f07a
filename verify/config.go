package verify

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"k8s.io/client-go/kubernetes"
)

// Config says which lab to look at and how to reach into it.
type Config struct {
	Lab  string
	Mode string // "kubeproxy"
	// Kube is the lab's API server.
	Kube kubernetes.Interface
	// Pods runs commands in pods, Engine in node containers.
	Pods   PodExec
	Engine Engine
	// Image is the nettool image as the nodes have it, with its tag.
	Image string
	// Nettool is the static nettool binary, put on nodes and on the outside
	// host for as long as a run lasts.
	Nettool []byte
	// NativeCIDR is what the profile calls ipv4NativeRoutingCIDR: inside it pods
	// keep their own address. ServiceCIDR is the cluster's Service subnet.
	NativeCIDR  netip.Prefix
	ServiceCIDR netip.Prefix
	// MTU is the profile's; 0 means that of the node's NIC.
	MTU int
	// Demo is nil where the profile deploys none.
	Demo *Demo

	Parallel     int           // checks at once; 0 means 6
	CheckTimeout time.Duration // of each check; 0 means 20 s
	SetupTimeout time.Duration // 0 means 60 s
	// Progress, if set, is told what happens, from one goroutine at a time.
	Progress func(Progress)
	Log      *slog.Logger // nil: nothing is logged
}

// Demo names the lab's demo Service.
type Demo struct {
	Namespace, Service, Headless string
	Port, NodePort               uint16
}

// Progress is one step of a run. Done of Total checks have ended; Result is
// set for a check that just did. Before the checks start Total is 0 and Step
// says what is being prepared.
type Progress struct {
	Step        string
	Done, Total int
	Result      *Result
}

// PodExec runs a command in a container of a pod and returns when it has
// ended. stdin may be nil. A command that ends with a status other than 0 is
// an error that says so.
type PodExec interface {
	ExecPod(ctx context.Context, namespace, pod, container string, argv []string, stdin io.Reader, stdout, stderr io.Writer) error
}

// Engine is the container engine that runs the lab's nodes.
type Engine interface {
	// Exec runs a command in a container, as root, and returns when it ended.
	Exec(ctx context.Context, container string, argv []string, stdin io.Reader, stdout, stderr io.Writer) error
	// Copy writes an executable file into a running container. The folder exists.
	Copy(ctx context.Context, container, path string, content []byte) error
	// StartHost starts a container with like's image on like's network that
	// runs argv[0] with the given content as its program, and returns its name
	// and address there. It carries the label HostLabel=lab.
	StartHost(ctx context.Context, lab, like, name string, program []byte, args []string) (netip.Addr, error)
	// RemoveHosts removes every container with the label HostLabel=lab.
	RemoveHosts(ctx context.Context, lab string) error
}

// HostLabel is the label of containers a run makes; its value is the lab's name.
const HostLabel = "wirelab.dev/verify"

func (c Config) withDefaults() Config {
	if c.Parallel == 0 {
		c.Parallel = 6
	}
	if c.CheckTimeout == 0 {
		c.CheckTimeout = 20 * time.Second
	}
	if c.SetupTimeout == 0 {
		c.SetupTimeout = time.Minute
	}
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}
