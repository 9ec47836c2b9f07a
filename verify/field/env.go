// Package field is what checks look with: sessions on nodes, in pods and on a
// host outside, captures, rules, maps, and flows that are told from all others.
// An [Env] is all of it for one run.
package field

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/probe"
)

// Env is what checks look through: the lab's nodes, two pods of the run's own
// on each of them, Services in front of those, and a host outside the cluster.
type Env struct {
	Config
	Nodes   []*Node // sorted by name, at least one
	Outside Peer
	// Native is a second address of the outside host, inside the native-routing
	// CIDR, to which every node has a route for as long as the run lasts. It is
	// not valid where the CIDR has no room for it.
	Native netip.Addr

	Every    Service // every Server is its backend
	One      Service // one Client is its only backend
	Headless Service // every Server, without an address of its own
	Sticky   Service // every Server, and a client keeps its own
	Local    Service // as One, for clients of the backend's node alone
	Empty    Service // no backend
	// Changing has the backend of One and Leaver. Both are there only where no
	// kube-proxy is: a check deletes the pod Leaver.
	Changing Service
	Leaver   Peer

	// DemoPods are those behind the demo's Service when the run began.
	DemoPods []Peer

	parts    []verify.Part // what has been laid out
	stage    stage
	services func(context.Context) (struct{}, error)
	devices  sync.Map // what each peer is asked for its devices with, by its name
}

// New returns what a run looks through, with nothing laid out yet.
func New(cfg Config) *Env { return &Env{Config: cfg.WithDefaults()} }

// Size implements [verify.Field].
func (e *Env) Size() int { return len(e.Nodes) }

// ServicesReady waits until the Services of this run can work on every node, so that
// a check of them does not judge a node that has not heard of them yet. It
// returns nil when that takes too long: then the check is what says so. An error
// says, too, which of the pods behind them did not come up: that these do not
// answer says nothing about Services.
func (e *Env) ServicesReady(ctx context.Context) error {
	if e.services == nil {
		return nil // nothing has been laid out that would have to
	}
	if err := e.backendsUp(); err != nil {
		return err
	}
	_, err := e.services(ctx)
	return err
}

func (e *Env) backendsUp() error {
	peers := []Peer{e.Leaver}
	for _, node := range e.Nodes {
		peers = append(peers, node.Client, node.Server)
	}
	var errs []error
	for _, p := range peers {
		if d, ok := p.Prober.(down); ok {
			errs = append(errs, fmt.Errorf("the run's Services lead to %s, which did not come up: %w", p.Name, d.err))
		}
	}
	return errors.Join(errs...)
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

// Peer is a pod, a node, or the host outside: probes are sent from it and to it.
type Peer struct {
	// Name reads well in evidence: "node lab-worker", "pod client-lab-worker".
	Name string
	// Self is what its nettool calls it in answers.
	Self string
	// Addr is not valid when the peer could not be brought up; its Prober then
	// says why.
	Addr netip.Addr
	// Port is where it serves nettool's HTTP and UDP.
	Port uint16
	// Node is the name of the node it is or runs on; empty outside.
	Node string
	Prober
}

// At is the address and port h serves at.
func (h Peer) At() netip.AddrPort { return netip.AddrPortFrom(h.Addr, h.Port) }

// Node is one node of the lab; it probes from its own network namespace.
type Node struct {
	Peer
	PodCIDR netip.Prefix
	// Client and Server are two pods of the run on this node. Both can probe
	// and both serve.
	Client, Server Peer
}

// Service is a Service with a TCP and a UDP port of the same number. The
// nodePorts are 0 for a headless one, and its Addr is not valid.
type Service struct {
	Namespace, Name          string
	Addr                     netip.Addr
	Port                     uint16
	NodePortTCP, NodePortUDP uint16
	// HealthPort is where every node says whether it has a backend; 0 unless
	// the Service is a load balancer's that wants local backends.
	HealthPort uint16
	Backends   []Peer
}

// At is the ClusterIP and port.
func (s Service) At() netip.AddrPort { return netip.AddrPortFrom(s.Addr, s.Port) }

const (
	PodPrefix  = "pod "
	NodePrefix = "node "
)

// NodeOf is the node that a pod of the run is on, or that the peer is.
func (e *Env) NodeOf(p Peer) *Node {
	return e.Nodes[slices.IndexFunc(e.Nodes, func(n *Node) bool { return n.Node == p.Node })]
}

// down is the Prober of a peer that could not be brought up.
type down struct{ err error }

func (d down) Probe(context.Context, probe.Request) (probe.Reply, error) {
	return probe.Reply{}, d.err
}

func (d down) Start(context.Context, probe.Request) (Running, error) { return nil, d.err }

// NotLaidOut is the Prober of a peer that no check has said it needs.
func NotLaidOut(part verify.Part) Prober {
	return down{fmt.Errorf("it was not laid out: the check does not say that it needs %s", part)}
}

// once runs f for the first caller; the others wait for its result.
func once[T any](f func(context.Context) (T, error)) func(context.Context) (T, error) {
	var mu sync.Mutex
	var got T
	done := false
	return func(ctx context.Context) (_ T, err error) {
		mu.Lock()
		defer mu.Unlock()
		if !done {
			got, err = f(ctx)
			// A caller whose own time ran out must not decide for the others.
			done = err == nil
		}
		return got, err
	}
}

// HasBackend tells whether a backend of the Service is on the node.
func (s Service) HasBackend(node *Node) bool {
	return slices.ContainsFunc(s.Backends, func(b Peer) bool { return b.Node == node.Node })
}
