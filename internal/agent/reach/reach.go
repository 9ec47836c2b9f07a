// Package reach finds out which nodes of the cluster this one reaches. It
// looks the way a pod does: from a network namespace of its own, which the
// datapath connects like any pod's, the health endpoint. Each node answers
// others on its own address and on its health endpoint's.
package reach

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/pulse"
)

// Node is a node of the cluster.
type Node struct {
	Name string
	Addr netip.Addr
}

// Config is what a Prober is told. All fields but Observe are required.
type Config struct {
	Self Node
	// Port is where nodes and health endpoints answer by TCP.
	Port uint16
	// Proc is where the writable /proc/sys is.
	Proc string
	// Nodes lists the nodes of the cluster, this one included.
	Nodes func() ([]Node, error)
	// Attach connects the network namespace that netns is open on, and
	// returns the address it has then. It is called again and again, and
	// mends what is broken.
	Attach func(ctx context.Context, netns *os.File) (netip.Addr, error)
	// Detach undoes Attach.
	Detach func(context.Context) error
	// Observe is told of every probe; it may be nil.
	Observe func(api.Probe)
	// Pace is how often and how fast; its zero value is [DefaultPace].
	Pace Pace
	Log  *slog.Logger
}

// Pace bounds what probing costs, here and elsewhere in the cluster.
type Pace struct {
	// Interval is how often each node is probed, give or take a fifth.
	Interval time.Duration
	// PerNode makes pauses longer in a large cluster: they come to at least this
	// much for every node.
	PerNode time.Duration
	// Again is how soon a node that was not reached is probed again. It
	// doubles up to half of Interval as long as it is not.
	Again time.Duration
	// Timeout is how long one probe waits for its answer.
	Timeout time.Duration
}

// DefaultPace probes 20 nodes a second at most, each of them with some 30
// packets.
func DefaultPace() Pace {
	return Pace{Interval: 20 * time.Second, PerNode: 50 * time.Millisecond, Again: time.Second, Timeout: 2 * time.Second}
}

// Prober probes while Run runs. Report may be called at any time.
type Prober struct {
	cfg Config

	mu       sync.Mutex
	endpoint netip.Addr // this node's
	broken   string     // why this node cannot probe or be probed
	nodes    map[string]*target
}

// New returns a Prober that knows nothing yet.
func New(cfg Config) *Prober {
	if cfg.Pace == (Pace{}) {
		cfg.Pace = DefaultPace()
	}
	if cfg.Observe == nil {
		cfg.Observe = func(api.Probe) {}
	}
	return &Prober{cfg: cfg, nodes: map[string]*target{}}
}

// Run probes until ctx is done, and then takes the health endpoint away. What
// goes wrong is reported and tried again: it never ends the agent.
func (p *Prober) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := p.session(ctx); err != nil && ctx.Err() == nil {
			p.setBroken(err)
			p.forget()
			select {
			case <-ctx.Done():
			case <-time.After(p.cfg.Pace.Interval / 2):
			}
		}
	}
}

// session lasts as long as a namespace and what listens in it.
func (p *Prober) session(ctx context.Context) error {
	ns, err := newNamespace(p.cfg.Proc)
	if err != nil {
		return err
	}
	defer ns.close()
	defer p.leave(ctx)
	if err := p.attach(ctx, ns); err != nil {
		return err
	}
	stop, err := p.listen(ctx, ns)
	if err != nil {
		return err
	}
	defer stop()
	workers, stopWorkers := p.startWorkers(ctx, ns)
	defer stopWorkers()
	for attached := time.Now(); ctx.Err() == nil; {
		if time.Since(attached) > p.cfg.Pace.Interval {
			if err := p.attach(ctx, ns); err != nil {
				return err
			}
			attached = time.Now()
		}
		p.setBroken(p.dispatch(ctx, workers))
		select {
		case <-ctx.Done():
		case <-time.After(pulse.Until(p.cfg.Pace.Again)):
		}
	}
	return nil
}

func (p *Prober) attach(ctx context.Context, ns *namespace) error {
	addr, err := p.cfg.Attach(ctx, ns.file)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endpoint = addr
	return err
}

// leave takes the endpoint away although ctx is done.
func (p *Prober) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := p.cfg.Detach(ctx); err != nil {
		p.cfg.Log.Warn("take the health endpoint away", "err", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endpoint = netip.Addr{}
}

func (p *Prober) setBroken(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.broken
	p.broken = ""
	if err != nil {
		p.broken = err.Error()
	}
	switch {
	case p.broken != "" && p.broken != was:
		p.cfg.Log.Warn("cannot probe other nodes", "err", err)
	case p.broken == "" && was != "":
		p.cfg.Log.Info("can probe other nodes again")
	}
}

// forget keeps what was found before from being taken for what is now.
func (p *Prober) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nodes = map[string]*target{}
}

func (p *Prober) healthEndpoint() netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.endpoint
}

// Report is what is known now.
func (p *Prober) Report() *api.ClusterHealth {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := &api.ClusterHealth{Endpoint: p.endpoint, Error: p.broken, Nodes: []api.NodeHealth{}}
	for _, n := range p.nodes {
		h.Nodes = append(h.Nodes, n.NodeHealth)
		switch n.Reached {
		case api.Reached:
			h.Reachable++
		case api.ReachedPartly:
			h.Partly++
		}
		if n.AnswersBy("icmp") {
			h.ICMP++
		}
		if n.AnswersBy("tcp") {
			h.TCP++
		}
	}
	slices.SortFunc(h.Nodes, func(a, b api.NodeHealth) int { return cmp.Compare(a.Name, b.Name) })
	return h
}
