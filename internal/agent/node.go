package agent

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/agent/flows"
	"wirelab.dev/wirelab/internal/agent/reach"
	"wirelab.dev/wirelab/internal/agent/services"
	"wirelab.dev/wirelab/internal/ipam"
	"wirelab.dev/wirelab/internal/reconcile"
)

// node is what an agent has once its datapath is open.
type node struct {
	self        self
	dp          *datapath.Datapath
	pool        *ipam.Pool
	eps         *endpoints
	ids         *identifier
	reconcilers reconcilers
	leftOut     *services.Report
	prober      *reach.Prober // nil where other nodes are not probed
	flows       *flows.Buffer // nil where none are kept
	who         *flows.Who
	serving     atomic.Bool              // cni.sock is served
	skipped     atomic.Pointer[[]string] // nodes without a route, sorted
}

// reconcilers are those of a node.
type reconcilers struct {
	all reconcile.Group

	sysctls, devices, endpoints, routes, ipcache, masquerade, labNode, identities, published, condition, cniConfig *reconcile.Reconciler
	// hostPorts is nil where services does their work, and services and
	// untracked are nil where kube-proxy does.
	hostPorts, services, untracked *reconcile.Reconciler
}

// How often reconcilers look whether others have changed what is theirs, where
// nothing tells that they have: see follow. Looking costs a few milliseconds
// each.
const resyncOften = time.Minute

// collectOften is how often flows that are over are taken out of the maps, and
// entries that were lost are put back: a far end that speaks first waits that long.
const collectOften = 10 * time.Second

// makeReconcilers lists all reconcilers. The CNI configuration is the last: it
// makes the kubelet start pods.
func (n *node) makeReconcilers(k *kube, own labNode, condition nodeCondition, cni cniFiles, checks *services.HealthChecks, m *metrics, log *slog.Logger) {
	r := &n.reconcilers
	add := func(name string, apply func(context.Context) error) *reconcile.Reconciler {
		one := reconcile.New(name, apply, reconcile.Options{Resync: resyncOften}, log)
		r.all = append(r.all, one)
		return one
	}
	withNodes := func(apply func(context.Context, []datapath.Node) error) func(context.Context) error {
		return func(ctx context.Context) error {
			nodes, err := k.nodeList()
			if err != nil {
				return err
			}
			return apply(ctx, nodes)
		}
	}
	routes := n.dp.Routes()
	r.sysctls = add("sysctls", n.dp.Sysctls().Apply)
	r.devices = add("devices", n.dp.Devices().Apply)
	r.endpoints = add("endpoints", n.eps.sync)
	n.eps.freed = add("addresses", n.purge()).Trigger
	r.routes = add("routes", withNodes(func(ctx context.Context, nodes []datapath.Node) error {
		skipped, err := routes.Apply(ctx, nodes)
		n.skipped.Store(&skipped)
		return err
	}))
	r.ipcache = add("ipcache", n.applyIPCache(k, own))
	r.masquerade = add("masquerade", withNodes(n.dp.Masquerade().Apply))
	r.labNode = add("lab-node", own.apply)
	r.identities = add("identities", n.ids.apply)
	r.published = add("lab-node-status", (&publisher{labNode: own, eps: n.eps}).paced())
	n.eps.changed = func() {
		n.who.KnowOwn(n.eps.talkers)
		r.identities.Trigger()
		r.published.Trigger()
		r.ipcache.Trigger()
	}
	r.condition = add("node-condition", condition.apply)
	if k.services == nil {
		r.hostPorts = add("hostports", n.applyHostPorts(k))
	} else {
		carried := n.carried(k, checks, m)
		r.services = add("services", carried.Apply)
		r.untracked = add("untracked", withNodes(n.dp.Untracked().Apply))
		r.all = append(r.all, reconcile.New("flows", carried.Collect, reconcile.Options{Resync: collectOften}, log))
	}
	r.cniConfig = reconcile.New("cni-config", cni.apply, reconcile.Options{Resync: resyncOften, After: r.all}, log)
	r.all = append(r.all, r.cniConfig)
}

// applyHostPorts keeps host ports where kube-proxy carries Services.
func (n *node) applyHostPorts(k *kube) func(context.Context) error {
	hostPorts := n.dp.HostPorts()
	return func(ctx context.Context) error {
		ports, podsLeftOut, err := k.hostPorts()
		if err != nil {
			return err
		}
		if err := hostPorts.Apply(ctx, ports); err != nil {
			return err
		}
		n.leftOut.Set(hostPorts.LeftOut(), podsLeftOut)
		return nil
	}
}

// carried keeps the Services of an agent that carries them.
func (n *node) carried(k *kube, checks *services.HealthChecks, m *metrics) *services.Reconciler {
	return &services.Reconciler{
		Watch: k.services, HostPorts: k.hostPorts, Zone: func() (string, error) { return k.zone(n.dp.Config().NodeName) },
		Services: n.dp.Services(), Checks: checks, Metrics: m.services, Report: n.leftOut, Reread: resyncOften,
		PortsChanged: func() { n.reconcilers.masquerade.Trigger(); n.reconcilers.sysctls.Trigger() },
	}
}

// paced is apply, which runs no sooner than it has said the last time.
func paced(apply func(context.Context) (next time.Time, err error)) func(context.Context) error {
	var next time.Time
	return func(ctx context.Context) (err error) {
		select {
		case <-time.After(time.Until(next)):
		case <-ctx.Done():
			return ctx.Err()
		}
		next, err = apply(ctx)
		return err
	}
}

// purgePace is how far apart purges are at least, and they never take more than
// a tenth of the time: with full maps one takes 45 ms, with 65,000 flows that
// the kernel tracks 370 ms. Endpoints deleted together are purged together.
const purgePace = time.Second

// purge forgets what is remembered of addresses that endpoints gave up: at
// once, and again when it is called after resyncOften, which is before the
// addresses have rested.
func (n *node) purge() func(context.Context) error {
	return paced(func(ctx context.Context) (time.Time, error) {
		start := time.Now()
		err := n.dp.PurgeAddresses(ctx, ipam.Rest, n.pool.Forgotten)
		return time.Now().Add(min(max(purgePace, 10*time.Since(start)), 10*purgePace)), err
	})
}

// skippedNodes are those without a route.
func (n *node) skippedNodes() []string {
	if skipped := n.skipped.Load(); skipped != nil {
		return *skipped
	}
	return nil
}
