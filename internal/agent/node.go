package agent

import (
	"context"
	"log/slog"
	"sync"
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
	serving     atomic.Bool // cni.sock is served

	mu      sync.Mutex
	skipped []string // nodes without a route, sorted
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

// makeReconcilers lists all reconcilers. The CNI configuration is the last: it
// makes the kubelet start pods.
func (n *node) makeReconcilers(k *kube, own labNode, condition nodeCondition, cni cniFiles, checks *services.HealthChecks, m *metrics, log *slog.Logger) {
	often := reconcile.Options{Resync: resyncOften}
	routes, masquerade, hostPorts := n.dp.Routes(), n.dp.Masquerade(), n.dp.HostPorts()
	r := &n.reconcilers
	r.routes = reconcile.New("routes", func(ctx context.Context) error {
		nodes, err := k.nodeList()
		if err != nil {
			return err
		}
		skipped, err := routes.Apply(ctx, nodes)
		n.setSkipped(skipped)
		return err
	}, often, log)
	r.ipcache = reconcile.New("ipcache", n.applyIPCache(k, own), often, log)
	r.masquerade = reconcile.New("masquerade", func(ctx context.Context) error {
		nodes, err := k.nodeList()
		if err != nil {
			return err
		}
		return masquerade.Apply(ctx, nodes)
	}, often, log)
	addresses := reconcile.New("addresses", n.purge(), often, log)
	n.eps.freed = addresses.Trigger
	r.labNode = reconcile.New("lab-node", own.apply, often, log)
	r.identities = reconcile.New("identities", n.ids.apply, often, log)
	r.published = reconcile.New("lab-node-status", (&publisher{labNode: own, eps: n.eps}).paced(), often, log)
	n.eps.changed = func() {
		n.who.KnowOwn(n.eps.talkers)
		r.identities.Trigger()
		r.published.Trigger()
		r.ipcache.Trigger()
	}
	r.condition = reconcile.New("node-condition", condition.apply, often, log)
	r.sysctls = reconcile.New("sysctls", n.dp.Sysctls().Apply, often, log)
	r.devices = reconcile.New("devices", n.dp.Devices().Apply, often, log)
	r.endpoints = reconcile.New("endpoints", n.eps.sync, often, log)
	r.all = reconcile.Group{
		r.sysctls, r.devices, r.endpoints, addresses, r.routes, r.ipcache, r.masquerade, r.labNode, r.identities, r.published, r.condition,
	}
	if k.services == nil {
		r.hostPorts = reconcile.New("hostports", func(ctx context.Context) error {
			ports, podsLeftOut, err := k.hostPorts()
			if err != nil {
				return err
			}
			if err := hostPorts.Apply(ctx, ports); err != nil {
				return err
			}
			n.leftOut.Set(hostPorts.LeftOut(), podsLeftOut)
			return nil
		}, often, log)
		r.all = append(r.all, r.hostPorts)
	} else {
		r.all = append(r.all, n.serviceReconcilers(k, checks, m, log)...)
	}
	r.cniConfig = reconcile.New("cni-config", cni.apply, reconcile.Options{Resync: resyncOften, After: r.all}, log)
	r.all = append(r.all, r.cniConfig)
}

// collectOften is how often flows that are over are taken out of the maps, and
// entries that were lost are put back: a far end that speaks first waits that long.
const collectOften = 10 * time.Second

// serviceReconcilers are the reconcilers of an agent that carries Services.
func (n *node) serviceReconcilers(k *kube, checks *services.HealthChecks, m *metrics, log *slog.Logger) []*reconcile.Reconciler {
	often := reconcile.Options{Resync: resyncOften}
	reconciler := &services.Reconciler{
		Watch: k.services, HostPorts: k.hostPorts, Zone: func() (string, error) { return k.zone(n.dp.Config().NodeName) },
		Services: n.dp.Services(), Checks: checks, Metrics: m.services, Report: n.leftOut, Reread: resyncOften,
		PortsChanged: func() { n.reconcilers.masquerade.Trigger(); n.reconcilers.sysctls.Trigger() },
	}
	untracked := n.dp.Untracked()
	n.reconcilers.services = reconcile.New("services", reconciler.Apply, often, log)
	n.reconcilers.untracked = reconcile.New("untracked", func(ctx context.Context) error {
		nodes, err := k.nodeList()
		if err != nil {
			return err
		}
		return untracked.Apply(ctx, nodes)
	}, often, log)
	collect := reconcile.New("flows", reconciler.Collect, reconcile.Options{Resync: collectOften}, log)
	return []*reconcile.Reconciler{n.reconcilers.services, n.reconcilers.untracked, collect}
}

// purgePace is how far apart purges are at least, and they never take more than
// a tenth of the time: with full maps one takes 45 ms, with 65,000 flows that
// the kernel tracks 370 ms. Endpoints deleted together are purged together.
const purgePace = time.Second

// purge forgets what is remembered of addresses that endpoints gave up: at
// once, and again when it is called after resyncOften, which is before the
// addresses have rested.
func (n *node) purge() func(context.Context) error {
	var next time.Time
	return func(ctx context.Context) error {
		select {
		case <-time.After(time.Until(next)):
		case <-ctx.Done():
			return ctx.Err()
		}
		start := time.Now()
		err := n.dp.PurgeAddresses(ctx, ipam.Rest, n.pool.Forgotten)
		next = time.Now().Add(min(max(purgePace, 10*time.Since(start)), 10*purgePace))
		return err
	}
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
