package agent

import (
	"context"
	"errors"
	"time"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/ipam"
)

// serverPatience is how long an agent that starts waits for the first word of the API server, before it goes on with what an
// earlier one of this node was told.
const serverPatience = 3 * time.Second

// findSelf is what the API server says of this node. Where it says nothing at all, it is what it said to an earlier agent:
// the node's pods are there, and new ones can start. As soon as the API server answers it counts, see compareSelf.
func (a *Agent) findSelf(ctx context.Context, own labNode) (self, error) {
	a.phase.Store("waiting for the API server at " + a.server)
	first, cancel := context.WithTimeout(ctx, serverPatience)
	err := waitForSync(first, a.kube.nodeInf, "nodes", a.server, a.log)
	cancel()
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		if s, ok := a.former(); ok {
			a.log.Warn("the API server does not answer: going on with what it said to an earlier agent", "server", a.server, "ip", s.IP, "podCIDR", s.PodCIDR)
			return s, nil
		}
		err = waitForSync(ctx, a.kube.nodeInf, "nodes", a.server, a.log)
	}
	if err != nil {
		return self{}, err
	}
	a.phase.Store(waitsForSelf(a.cfg.NodeName))
	return a.kube.awaitSelf(ctx, own, func(err error) { a.phase.Store(waitsForSelf(a.cfg.NodeName) + ": " + err.Error()) }, a.log)
}

// former is what an earlier agent was told of this node since it booted, as the pinned ipcache has it.
func (a *Agent) former() (self, bool) {
	entries, err := datapath.PinnedIPCache(a.cfg.Paths.BPFFS)
	if err != nil {
		a.log.Warn("what an earlier agent was told of this node cannot be read", "err", err)
	}
	return selfOf(entries)
}

// retirePublished has the addresses rest that other nodes still know as those of pods which are not there any more, as after
// a reboot, when nothing on the node says which they were. Where the API server answers, it waits a moment for its list of
// LabNodes.
func (a *Agent) retirePublished(ctx context.Context, pool *ipam.Pool) {
	if a.kube.nodeInf.HasSynced() {
		ctx, cancel := context.WithTimeout(ctx, serverPatience)
		defer cancel()
		if err := waitForSync(ctx, a.kube.labNodes, "LabNodes", a.server, a.log); err != nil {
			a.log.Warn("which addresses other nodes know as those of pods is not known yet", "err", err)
		}
	}
	have := a.kube.labNodes.Find(a.cfg.NodeName)
	if have == nil {
		return
	}
	for _, ep := range have.Status.Endpoints {
		pool.Retire(ep.Address, 0)
	}
}
