package reach

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

// parallel is how many nodes are probed at once. One that does not answer
// takes some seconds and must not keep the others waiting.
const parallel = 8

// target is a node and when to probe it.
type target struct {
	api.NodeHealth
	due      time.Time
	probing  bool
	failures int // in a row
}

// startWorkers has nodes probed on threads in the namespace, until stop is called.
func (p *Prober) startWorkers(ctx context.Context, ns *namespace) (nodes chan<- Node, stop func()) {
	todo := make(chan Node)
	var workers sync.WaitGroup
	for range parallel {
		workers.Go(func() {
			runtime.LockOSThread() // and never unlocked: the thread ends in the other namespace
			outside := ns.enter()
			for n := range todo {
				p.probe(ctx, n, outside)
			}
		})
	}
	return todo, func() { close(todo); workers.Wait() }
}

// dispatch hands the nodes whose time has come to workers.
func (p *Prober) dispatch(ctx context.Context, workers chan<- Node) error {
	nodes, err := p.cfg.Nodes()
	if err != nil {
		return err
	}
	for _, n := range p.due(nodes) {
		select {
		case workers <- n:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// due picks nodes to probe now, in a random order, and forgets those that
// have left the cluster.
func (p *Prober) due(nodes []Node) []Node {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	present := map[string]bool{}
	var picked []Node
	for _, n := range nodes {
		present[n.Name] = true
		t := p.nodes[n.Name]
		if t == nil || t.Addr != n.Addr {
			t = &target{NodeHealth: api.NodeHealth{Name: n.Name, Addr: n.Addr, Self: n.Name == p.cfg.Self.Name}, due: now}
			p.nodes[n.Name] = t
		}
		if !t.probing && !t.due.After(now) {
			t.probing = true
			picked = append(picked, n)
		}
	}
	for name := range p.nodes {
		if !present[name] {
			delete(p.nodes, name)
		}
	}
	rand.Shuffle(len(picked), func(i, j int) { picked[i], picked[j] = picked[j], picked[i] })
	return picked
}

// probe probes one node and notes what it found. outside is why the calling
// thread is not in the namespace, if it is not.
func (p *Prober) probe(ctx context.Context, n Node, outside error) {
	var probes []api.Probe
	endpoint := p.endpointOf(n.Name)
	if outside != nil {
		probes = []api.Probe{{Target: onNode, Protocol: "icmp", Error: outside.Error()}}
	} else {
		probes, endpoint = p.probeNode(ctx, n, endpoint)
	}
	if ctx.Err() != nil {
		return // what failed then failed for that
	}
	for _, one := range probes {
		p.cfg.Observe(one)
	}
	p.note(n, endpoint, probes)
}

// What is probed of a node.
const (
	onNode     = "node"
	onEndpoint = "endpoint"
)

// probeNode tries every way to a node. Its answer by TCP says where its
// endpoint is; without one the address of before is tried.
func (p *Prober) probeNode(ctx context.Context, n Node, endpoint netip.Addr) ([]api.Probe, netip.Addr) {
	timeout := p.cfg.Pace.Timeout
	pinged := func(target string, addr netip.Addr) api.Probe {
		took, err := ping(ctx, addr, timeout)
		return probeOf(target, "icmp", took, err)
	}
	asked := func(target string, addr netip.Addr) (api.Probe, answer) {
		said, took, err := ask(ctx, p.cfg.Self.Name, netip.AddrPortFrom(addr, p.cfg.Port), timeout)
		if err == nil && said.Node != n.Name {
			err = fmt.Errorf("node %s answers", said.Node)
		}
		return probeOf(target, "tcp", took, err), said
	}
	byTCP, said := asked(onNode, n.Addr)
	if byTCP.Error == "" {
		endpoint = said.Endpoint
	}
	probes := []api.Probe{pinged(onNode, n.Addr), byTCP}
	if n.Name == p.cfg.Self.Name {
		return probes, endpoint // the endpoint is where these come from
	}
	if !endpoint.IsValid() {
		why := "the node has not told its address"
		if byTCP.Error == "" {
			why = "the node has none"
		}
		for _, protocol := range []string{"icmp", "tcp"} {
			probes = append(probes, api.Probe{Target: onEndpoint, Protocol: protocol, Error: why})
		}
		return probes, endpoint
	}
	byTCP, _ = asked(onEndpoint, endpoint)
	return append(probes, pinged(onEndpoint, endpoint), byTCP), endpoint
}

// heard is told of a node that asks. One that was not reached may well be by
// now, and is probed again soon: when a node comes up, it is the first to know.
func (p *Prober) heard(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.nodes[node]
	if t == nil || t.probing || t.ProbedAt.IsZero() || t.Reached == api.Reached {
		return
	}
	if soon := t.ProbedAt.Add(p.cfg.Pace.Again); soon.Before(t.due) {
		t.due = soon
	}
}

func probeOf(target, protocol string, took time.Duration, err error) api.Probe {
	if err != nil {
		return api.Probe{Target: target, Protocol: protocol, Error: err.Error()}
	}
	return api.Probe{Target: target, Protocol: protocol, Latency: max(took, 1)}
}

func (p *Prober) endpointOf(node string) netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.nodes[node]; t != nil {
		return t.Endpoint
	}
	return netip.Addr{}
}

// note keeps what probes found, and sets when to probe next.
func (p *Prober) note(n Node, endpoint netip.Addr, probes []api.Probe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.nodes[n.Name]
	if t == nil || t.Addr != n.Addr {
		return // it has left meanwhile, or is another
	}
	now, was := time.Now(), t.Failing
	t.probing, t.ProbedAt, t.Probes, t.Endpoint = false, now, probes, endpoint
	t.Reached = reached(probes)
	t.Failing = failing(t.NodeHealth)
	pace := p.cfg.Pace
	all := time.Duration(len(p.nodes)) * pace.PerNode
	pause := max(pace.Interval, all)
	if t.Reached == api.Reached {
		t.failures, t.Since = 0, time.Time{}
		if was != "" {
			p.cfg.Log.Info("node is reached again", "node", n.Name)
		}
	} else {
		pause = min(max(pace.Interval/2, all), pace.Again<<min(t.failures, 16))
		t.failures++
		if was == "" {
			t.Since = now
			p.cfg.Log.Warn("node does not answer every probe", "node", n.Name, "err", t.Failing)
		}
	}
	t.due = now.Add(pause*4/5 + rand.N(pause*2/5))
}
