package cluster

import (
	"context"
	"io"
	"net/netip"

	"wirelab.dev/wirelab/internal/docker"
)

// Node is a lab's node: a container that runs a kubelet. The zero Node is of no use.
type Node struct {
	Name    string     // of the container and of the Kubernetes node
	Role    string     // "control-plane", "worker" or, with several control planes, "external-load-balancer"
	Network string     // the Docker network it is on
	IP      netip.Addr // its IPv4 address there; zero when it does not run
	Running bool
	Paused  bool
	cluster string
	// published is where on this machine its ports are.
	published map[uint16]netip.AddrPort
	engine    *docker.Engine
}

// Down says why nothing can be asked of the node: it is paused or stopped. Empty when it runs.
func (n Node) Down() string {
	switch {
	case n.Running:
		return ""
	case n.Paused:
		return "is paused"
	default:
		return "is stopped"
	}
}

// Roles as kind labels them.
const (
	RoleControlPlane = "control-plane"
	RoleWorker       = "worker"
	RoleLoadBalancer = "external-load-balancer"
)

// Run runs cmd as root in the node's own namespaces (not a pod's) and returns its output. An exit status other than 0
// is an error. stdin may be nil.
func (n Node) Run(ctx context.Context, stdin io.Reader, cmd ...string) ([]byte, error) {
	r, err := n.engine.Exec(ctx, n.Name, stdin, cmd...)
	if err == nil {
		err = r.Err(cmd...)
	}
	return r.Stdout, err
}

// Engine is the Docker engine the node's container runs in.
func (n Node) Engine() *docker.Engine { return n.engine }
