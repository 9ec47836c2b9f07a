package verify

import (
	"context"
	"net/netip"

	"wirelab.dev/wirelab/verify/probe"
)

// Env is what checks look through: the lab's nodes, two pods of the run's own
// on each of them, Services in front of those, and a host outside the cluster.
type Env struct {
	Config
	Nodes   []Node // sorted by name, at least one
	Outside Host
}

// Prober sends probes from one place: a node, a pod, or the outside host.
type Prober interface {
	// Probe returns the final reply. The error says that the probe could not be
	// sent or its reply not read; what the network did wrong is in the reply.
	Probe(ctx context.Context, request probe.Request) (probe.Reply, error)
	// Start sends a capture or serve and returns when it is ready.
	Start(ctx context.Context, request probe.Request) (Running, error)
}

// Running is a capture or serve under way.
type Running interface {
	// Ready is the reply that came when it was ready.
	Ready() probe.Reply
	// Wait returns the final reply, when the probe has ended by itself.
	Wait(ctx context.Context) (probe.Reply, error)
	// Stop ends it and returns the final reply.
	Stop(ctx context.Context) (probe.Reply, error)
}

// Host is a place with an address that probes can be sent from and to.
type Host struct {
	// Name reads well in evidence: "node kubeproxy-worker", "pod server-…".
	Name string
	Addr netip.Addr
	Prober
}

// Node is one node of the lab. The node itself probes from its own network
// namespace.
type Node struct {
	Host
	PodCIDR netip.Prefix
	// Client and Server are two pods of the run on this node. Both can probe
	// and both serve nettool's port.
	Client, Server Host
}
