// Package agent turns Kubernetes objects into the state of a node's datapath
// and answers the CNI plugin, the kubelet's probes, Prometheus and people.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/agent/config"
	"wirelab.dev/wirelab/internal/agent/flows"
	"wirelab.dev/wirelab/internal/agent/notices"
	"wirelab.dev/wirelab/internal/agent/services"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/apiserver"
	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/ipam"
	"wirelab.dev/wirelab/internal/reconcile"
	"wirelab.dev/wirelab/internal/serve"
	"wirelab.dev/wirelab/internal/settings"
)

// Agent is the daemon of one node.
type Agent struct {
	cfg     config.Config
	client  kubernetes.Interface
	objects *crd.Client
	server  string
	log     *slog.Logger
	started time.Time

	kube    *kube
	cni     cniFiles
	proxy   *kubeProxy // nil when the agent carries Services
	metrics *metrics
	phase   atomic.Value         // string: what is waited for until node is set
	node    atomic.Pointer[node] // nil until the datapath is open
}

// New returns an agent that does nothing until Run.
func New(cfg config.Config, server apiserver.Server, log *slog.Logger) (*Agent, error) {
	k, err := newKube(server, cfg.NodeName, cfg.DaemonSet)
	if err != nil {
		return nil, err
	}
	if cfg.KubeProxyReplacement {
		if k.services, err = services.NewWatch(server.Kubernetes, cfg.NodeName); err != nil {
			return nil, err
		}
	}
	if cfg.IPAM.Mode == settings.IPAMClusterPool {
		k.pool = strings.Join(cfg.IPAM.Operator.ClusterPoolIPv4PodCIDRList, ", ")
	}
	a := &Agent{
		cfg: cfg, client: server.Kubernetes, objects: server.Objects, server: server.URL, log: log, started: time.Now(),
		kube: k, cni: newCNIFiles(cfg.Paths),
	}
	if !cfg.KubeProxyReplacement {
		a.proxy = newKubeProxy(server.Service, log)
	}
	a.phase.Store("the agent is starting")
	a.metrics = newMetrics(a.snapshot, cfg.Flows.Metrics)
	if k.services != nil {
		a.metrics.withServices()
	}
	return a, nil
}

// Run works until ctx is done. Then it leaves pods, their traffic and all
// that carries it in place, unless the agent is being uninstalled, when it
// cleans the node. Errors are of things that a new start may mend.
func (a *Agent) Run(ctx context.Context) error {
	a.phase.Store("waiting for another agent on this node to stop")
	lock, err := awaitLock(ctx, a.cfg.Paths.Lock(), a.log)
	if err != nil {
		return err
	}
	defer lock.Close()
	leaving := newUninstall(a.client, a.cfg.DaemonSet, a.log)
	stopWatching, err := a.watchOwnDaemonSet(ctx, leaving)
	if err != nil {
		return err
	}
	defer stopWatching()

	err = a.work(ctx)
	stopped := ctx.Err() != nil
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 25*time.Second)
	defer cancel()
	if stopped && leaving.decided(after, 3*time.Second) {
		a.log.Info("the agent's DaemonSet is gone: cleaning the node")
		return errors.Join(err, a.cleanUninstalled(after))
	}
	if n := a.node.Load(); n != nil {
		err = errors.Join(err, n.dp.Close())
	}
	a.log.Info("stopped; pods and their traffic stay as they are")
	return err
}

// watchOwnDaemonSet watches beyond the end of ctx, when it matters most.
func (a *Agent) watchOwnDaemonSet(ctx context.Context, u *uninstall) (stop func(), err error) {
	if u == nil {
		return func() {}, nil
	}
	if err := u.watch(a.kube.daemonSets); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var watching sync.WaitGroup
	watching.Go(func() { a.kube.daemonSets.RunWithContext(ctx) })
	return func() { cancel(); watching.Wait() }, nil
}

// work serves and brings the node up, until ctx is done or a part fails.
func (a *Agent) work(ctx context.Context) error {
	eg, ctx := errgroup.WithContext(ctx)
	if err := a.serveAll(ctx, eg); err != nil {
		return errors.Join(err, eg.Wait())
	}
	for _, run := range a.kube.watching() {
		eg.Go(func() error { run(ctx); return nil })
	}
	eg.Go(func() error {
		err := a.bringUp(ctx, eg)
		if ctx.Err() != nil {
			return nil // stopped half-way
		}
		return err
	})
	return eg.Wait()
}

// serveAll starts to serve everything but CNI calls. Health and status answer
// from the start: they say what is waited for.
func (a *Agent) serveAll(ctx context.Context, eg *errgroup.Group) error {
	socket, err := listenUnix(a.cfg.Paths.AgentSocket())
	if err != nil {
		return err
	}
	eg.Go(func() error { return serve.Unix(ctx, socket, a.apiHandler()) })
	health, err := serve.Listen(ctx, net.JoinHostPort("127.0.0.1", strconv.Itoa(a.cfg.Health.Port)), "health.port")
	if err != nil {
		return err
	}
	eg.Go(func() error { return serve.TCP(ctx, health, healthHandler(a.problems)) })
	if !a.cfg.Prometheus.Enabled {
		return nil
	}
	prom, err := serve.Listen(ctx, net.JoinHostPort("", strconv.Itoa(a.cfg.Prometheus.Port)), "prometheus.port")
	if err != nil {
		return err
	}
	eg.Go(func() error { return serve.TCP(ctx, prom, a.metrics.handler()) })
	return nil
}

// bringUp takes the node from nothing, or from what an earlier agent left, to
// one that carries pods, and keeps it so.
func (a *Agent) bringUp(ctx context.Context, eg *errgroup.Group) error {
	own := labNode{objects: a.objects.Nodes, kube: a.kube, nodeName: a.cfg.NodeName}
	s, err := a.findSelf(ctx, own)
	if err != nil {
		return err
	}
	a.phase.Store("opening the datapath")
	n, err := a.openNode(ctx, s)
	if err != nil {
		return err
	}
	l, err := listenUnix(a.cfg.Paths.CNISocket())
	if err != nil {
		return err
	}
	// From here on calls queue up. A DEL that found no agent, and took a
	// device away by itself, is seen by the sync.
	if err := n.eps.sync(ctx); err != nil {
		l.Close()
		return err
	}
	a.retirePublished(ctx, n.pool)
	n.prober = a.newProber(n)
	if n.ids, err = a.newIdentifier(n.eps); err != nil {
		return err
	}
	n.makeReconcilers(a.kube, own, a.condition(n.clusterHealth), a.cni, services.NewHealthChecks(ctx, eg), a.metrics, a.log)
	a.node.Store(n)
	eg.Go(func() error { a.proxy.run(ctx, kubeProxyPatience); return nil })
	server := &cniServer{eps: n.eps, proxy: a.proxy, cfg: n.dp.Config(), observe: a.metrics.observeCNI, log: a.log}
	n.serving.Store(true)
	eg.Go(func() error { return server.serve(ctx, l) })
	a.log.Info("serving pods", "node", a.cfg.NodeName, "ip", s.IP, "podCIDR", s.PodCIDR,
		"mode", n.dp.Config().Mode(), "endpoints", n.eps.count(), "took", time.Since(a.started).Round(time.Millisecond))

	// Reconcilers remove what is not in these lists, and an agent may have come here without any.
	for _, l := range a.kube.lists() {
		if err := a.awaitList(ctx, l); err != nil {
			return err
		}
	}
	changed := make(chan error, 1)
	if err := n.watchKube(a.kube, a.cfg.NodeName, changed); err != nil {
		return err
	}
	if n.dp.Config().Roles().Routing == settings.RoutingBPF {
		eg.Go(func() error { return n.dp.FollowNeighbours(ctx) })
	}
	follower, err := n.dp.Follow()
	if err != nil {
		return err
	}
	eg.Go(func() error { return follower.Run(ctx, n.reconcilers.wake) })
	eg.Go(func() error { return a.cni.follow(ctx, n.reconcilers.cniConfig.Trigger, a.log) })
	if a.cfg.Debug.Enabled && a.cfg.Debug.Verbose == settings.VerboseDatapath {
		eg.Go(func() error { logEvents(ctx, n.dp.Events(ctx, loggedLate), a.log); return nil })
	}
	if n.flows != nil {
		eg.Go(func() error { n.keepFlows(ctx, a.metrics.flows, a.log); return nil })
	}
	if a.cfg.Flows.Relay.Enabled {
		eg.Go(func() error { return a.serveRelay(ctx, n) })
	}
	if n.prober != nil {
		eg.Go(func() error { n.prober.Run(ctx); return nil })
	}
	eg.Go(func() error { return n.reconcilers.all.Run(ctx) })
	if err := a.tell(ctx, eg, n.leftOut); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-changed:
		return err
	}
}

// tell makes events about NetworkPolicies and about what is left out. That has
// no say in the node's readiness, so these are not among its reconcilers.
func (a *Agent) tell(ctx context.Context, eg *errgroup.Group, l *services.Report) error {
	p := newPolicies(a.kube, a.cfg.NodeName, notices.New(a.client, a.cfg.NodeName))
	policies := reconcile.New("network-policies", p.apply, reconcile.Options{Resync: speakerPatience, MinBackoff: 5 * time.Second}, a.log)
	leftOut := reconcile.New("left-out", l.Tell, reconcile.Options{
		Resync: 10 * time.Minute, Timeout: 5 * time.Minute, MinBackoff: 5 * time.Second, MaxBackoff: 5 * time.Minute,
	}, a.log)
	l.OnChange(leftOut.Trigger)
	eg.Go(func() error { return reconcile.Group{policies, leftOut}.Run(ctx) })
	return p.watch(policies.Trigger)
}

// openNode opens the datapath and makes the pool, empty as yet.
func (a *Agent) openNode(ctx context.Context, s self) (*node, error) {
	native := a.cfg.IPv4NativeRoutingCIDR
	if a.cfg.EnableIPv4Masquerade && !contains(native, s.PodCIDR) {
		return nil, fmt.Errorf("use ipv4NativeRoutingCIDR %s: this node's podCIDR %s is not inside it, so pods on other nodes would see the node's address; "+
			"set it to a prefix that has all podCIDRs of the cluster", native, s.PodCIDR)
	}
	for _, p := range a.cfg.IPAM.Operator.Pool() {
		if a.kube.pool != "" && p.Contains(s.IP) {
			return nil, fmt.Errorf("use ipam.operator.clusterPoolIPv4PodCIDRList: %s has this node's own address %s in it; move the pool away from the nodes' network", p, s.IP)
		}
	}
	pool, err := ipam.NewPool(s.PodCIDR)
	if err != nil {
		return nil, err
	}
	dp, err := datapath.Open(ctx, a.datapathConfig(s), a.log)
	if err != nil {
		return nil, fmt.Errorf("open the datapath: %w", err)
	}
	for _, reason := range dp.Config().Roles().Legacy {
		a.log.Info("BPF host routing is not in use, the node's IP stack routes", "reason", reason)
	}
	n := &node{
		self: s, dp: dp, pool: pool, eps: newEndpoints(dp, pool, a.log),
		leftOut: services.NewReport(a.kube.pods, a.kube.services, a.kube.agentNodes, a.cfg.NodeName, notices.New(a.client, a.cfg.NodeName)),
		who:     flows.NewWho(a.kube.identities.Numbers()),
	}
	if a.cfg.Flows.Capacity > 0 {
		n.flows = flows.NewBuffer(a.cfg.NodeName, a.cfg.Flows.Capacity, n.dp.Hurry)
	}
	return n, nil
}

func (a *Agent) datapathConfig(s self) datapath.Config {
	return datapath.Config{
		Network:    a.cfg.Network,
		NodeName:   a.cfg.NodeName,
		NodeIP:     s.IP,
		PodCIDR:    s.PodCIDR,
		HostRoot:   a.cfg.Paths.HostRoot,
		BPFFS:      a.cfg.Paths.BPFFS,
		Proc:       a.cfg.Paths.Proc,
		CgroupRoot: a.cfg.Paths.CgroupRoot,
	}
}

func (a *Agent) condition(health func() *api.ClusterHealth) nodeCondition {
	return nodeCondition{client: a.client, kube: a.kube, nodeName: a.cfg.NodeName, health: health}
}
