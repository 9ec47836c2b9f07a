package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/agent/reconcile"
	"wirelab.dev/wirelab/internal/ipam"
)

// node is what an agent has once its datapath is open.
type node struct {
	self    self
	dp      *datapath.Datapath
	pool    *ipam.Pool
	eps     *endpoints
	loops   loops
	serving atomic.Bool // cni.sock is served

	mu      sync.Mutex
	skipped []string // nodes without a route, sorted
}

// loops are the reconcilers of a node.
type loops struct {
	all                                      reconcile.Group
	routes, masquerade, hostPorts, condition *reconcile.Reconciler
}

// How often reconcilers look whether others have changed what is theirs.
// Looking costs a few milliseconds each, and copies of the CNI plugin are
// compared in full.
const (
	resyncOften  = time.Minute
	resyncSeldom = 5 * time.Minute
)

// makeLoops lists all reconcilers. The CNI configuration is the last: it
// makes the kubelet start pods.
func (n *node) makeLoops(k *kube, condition nodeCondition, cni cniFiles, log *slog.Logger) {
	often := reconcile.Options{Resync: resyncOften}
	routes, masquerade, hostPorts := n.dp.Routes(), n.dp.Masquerade(), n.dp.HostPorts()
	l := &n.loops
	l.routes = reconcile.New("routes", func(ctx context.Context) error {
		nodes, err := k.nodeList()
		if err != nil {
			return err
		}
		skipped, err := routes.Apply(ctx, nodes)
		n.setSkipped(skipped)
		return err
	}, often, log)
	l.masquerade = reconcile.New("masquerade", func(ctx context.Context) error {
		nodes, err := k.nodeList()
		if err != nil {
			return err
		}
		return masquerade.Apply(ctx, nodes)
	}, often, log)
	l.hostPorts = reconcile.New("hostports", func(ctx context.Context) error {
		pods, err := k.pods.List(labels.Everything())
		if err != nil {
			return fmt.Errorf("list the pods of this node: %w", err)
		}
		return hostPorts.Apply(ctx, hostPortsOfPods(pods))
	}, often, log)
	l.condition = reconcile.New("node-condition", condition.apply, reconcile.Options{Resync: resyncSeldom}, log)
	l.all = reconcile.Group{
		reconcile.New("sysctls", n.dp.Sysctls().Apply, often, log),
		reconcile.New("devices", n.dp.Devices().Apply, often, log),
		reconcile.New("endpoints", n.eps.sync, often, log),
		l.routes, l.masquerade, l.hostPorts, l.condition,
	}
	l.all = append(l.all, reconcile.New("cni-config", cni.apply,
		reconcile.Options{Resync: resyncSeldom, After: l.all}, log))
}

func (n *node) setSkipped(names []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.skipped = names
}

func (n *node) skippedNodes() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.skipped
}
