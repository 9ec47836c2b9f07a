package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/crd"
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
	err := a.awaitList(first, list{"nodes", a.kube.nodeInf})
	cancel()
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		if s, ok := a.former(); ok {
			a.log.Warn("the API server does not answer: going on with what it said to an earlier agent", "server", a.server, "ip", s.IP, "podCIDR", s.PodCIDR)
			return s, nil
		}
		err = a.awaitList(ctx, list{"nodes", a.kube.nodeInf})
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
// a reboot, when nothing on the node says which they were. An API server that has told of the nodes is asked for a moment.
func (a *Agent) retirePublished(ctx context.Context, pool *ipam.Pool) {
	if !a.kube.nodeInf.HasSynced() {
		return
	}
	var own *crd.LabNode
	var err error
	_ = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, serverPatience, true, func(ctx context.Context) (bool, error) {
		own, err = a.ownLabNode(ctx)
		return err == nil, nil
	})
	if err != nil {
		a.log.Warn("which addresses other nodes know as those of pods is not known yet", "err", err)
		return
	}
	for _, ep := range own.Status.Endpoints {
		pool.Retire(ep.Address, 0)
	}
}

// ownLabNode is the node's own, empty where there is none. It does not wait for the list of all: after a failure an informer
// may be silent for half a minute.
func (a *Agent) ownLabNode(ctx context.Context) (*crd.LabNode, error) {
	inf := a.kube.labNodes
	if have := inf.Find(a.cfg.NodeName); have != nil || inf.HasSynced() {
		return cmp.Or(have, &crd.LabNode{}), nil
	}
	var o metav1.ListOptions
	selectField("metadata.name", a.cfg.NodeName)(&o)
	list, err := a.objects.Nodes.List(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("look up LabNode %s: %w", a.cfg.NodeName, crd.Explain(crd.LabNodes, err))
	}
	for i := range list.Items {
		if list.Items[i].Name == a.cfg.NodeName {
			return &list.Items[i], nil
		}
	}
	return &crd.LabNode{}, nil
}
