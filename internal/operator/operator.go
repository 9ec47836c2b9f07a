// Package operator does what a cluster needs once: it gives podCIDRs out of the cluster's pool, and collects what nodes
// and pods that went have left in the API server.
package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"wirelab.dev/wirelab/internal/apiserver"
	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/ipam"
	"wirelab.dev/wirelab/internal/reconcile"
	"wirelab.dev/wirelab/internal/watch"
)

// Config is what one operator is told.
type Config struct {
	// Identity is this operator's alone: another process has another one, on the same node and after a restart, too.
	Identity string
	// Namespace is that of the lease by which operators agree on who leads.
	Namespace string
	// Pool is what podCIDRs are given out of; nil: nodes have them of Kubernetes.
	Pool *ipam.ClusterPool
}

// Operator is one process of possibly several, of which one works and the others wait.
type Operator struct {
	cfg      Config
	client   kubernetes.Interface
	objects  *crd.Client
	log      *slog.Logger
	election *election

	nodes      listers.NodeLister
	nodeInf    cache.SharedIndexInformer
	labNodes   crd.Informer[crd.LabNode, *crd.LabNode]
	identities crd.Informer[crd.LabIdentity, *crd.LabIdentity]
}

// New returns an operator that does nothing until Run.
func New(cfg Config, server apiserver.Server, log *slog.Logger) *Operator {
	client, objects := server.Kubernetes, server.Objects
	nodes := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(stripNode)).Core().V1().Nodes()
	return &Operator{
		cfg: cfg, client: client, objects: objects, log: log, election: &election{cfg: cfg, client: client, log: log},
		nodes: nodes.Lister(), nodeInf: nodes.Informer(),
		labNodes: crd.NewInformer(objects.Nodes), identities: crd.NewInformer(objects.Identities),
	}
}

// Run follows until it leads, and leads until ctx is done. The error says when another one has taken the lead: then this
// process is to end, as whoever begins anew has to be told from it.
func (o *Operator) Run(ctx context.Context) error {
	o.awaitChart(ctx)
	eg, ctx := errgroup.WithContext(ctx)
	for _, inf := range []cache.SharedIndexInformer{o.nodeInf, o.labNodes, o.identities} {
		eg.Go(func() error { inf.RunWithContext(ctx); return nil })
	}
	eg.Go(func() error { return o.election.run(ctx, o.lead) })
	return eg.Wait()
}

// awaitChart waits until the API server has what the chart brings, or ctx is done.
func (o *Operator) awaitChart(ctx context.Context) {
	var said string
	_ = wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		err := o.lacking(ctx)
		if err != nil && said != err.Error() {
			o.log.Warn("waiting for the API server", "err", err)
			said = err.Error()
		}
		return err == nil, nil
	})
}

// lacking returns what the API server does not have of what the chart brings.
func (o *Operator) lacking(ctx context.Context) error {
	_, err := o.objects.Nodes.List(ctx, one)
	if err != nil {
		return crd.Explain(crd.LabNodes, err)
	}
	if _, err = o.objects.Identities.List(ctx, one); err != nil {
		return crd.Explain(crd.LabIdentities, err)
	}
	if err = o.election.held(ctx); errors.Is(err, errLost) { // there is a lease, whoever has it
		return nil
	}
	return err
}

// Ready returns why this operator neither leads nor follows; nil when it does.
func (o *Operator) Ready() error {
	if !o.synced() {
		return errors.New("the lists of the API server's objects are not there yet")
	}
	return o.election.ready()
}

// Healthy returns why this process is to be started anew; nil when it is not.
func (o *Operator) Healthy() error { return o.election.healthy() }

func (o *Operator) synced() bool {
	return o.nodeInf.HasSynced() && o.labNodes.HasSynced() && o.identities.HasSynced()
}

// collectOften is how often what is to go is looked for, besides when something has changed.
const collectOften = 10 * time.Second

// lead works until ctx is done. It is called once.
func (o *Operator) lead(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), o.nodeInf.HasSynced, o.labNodes.HasSynced, o.identities.HasSynced) {
		return nil
	}
	started := time.Now()
	c := &collector{Operator: o, now: time.Now}
	gone := reconcile.New("gone-nodes", c.nodesGone, reconcile.Options{Resync: collectOften}, o.log)
	unused := reconcile.New("unused-identities", c.identitiesUnused, reconcile.Options{Resync: collectOften}, o.log)
	g := &giver{Operator: o}
	if err := g.fence(ctx); err != nil {
		return fmt.Errorf("begin to lead: %w", err)
	}
	podCIDRs := reconcile.New("pod-cidrs", g.apply, reconcile.Options{Resync: time.Minute}, o.log)
	nodeChanged := func(old, now *corev1.Node) {
		if old == nil || now == nil { // it came or went
			gone.Trigger()
		}
	}
	labNodeChanged := func(old, now *crd.LabNode) {
		if !sameToGiver(old, now) {
			podCIDRs.Trigger()
		}
		if now != nil && now.Annotations[crd.NodeGone] != "" {
			gone.Trigger()
		}
	}
	err := errors.Join(watch.Follow(o.nodeInf, "nodes", nodeChanged), watch.Follow(o.labNodes, "LabNodes", labNodeChanged))
	if err != nil {
		return err
	}
	o.log.Info("leading", "pool", fmt.Sprint(o.cfg.Pool), "took", time.Since(started).Round(time.Millisecond))
	return reconcile.Group{gone, unused, podCIDRs}.Run(ctx)
}

var stripNode = watch.Strip(func(node *corev1.Node) *corev1.Node {
	return &corev1.Node{ObjectMeta: watch.Meta(node.ObjectMeta)}
})
