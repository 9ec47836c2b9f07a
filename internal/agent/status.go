package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/labels"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/version"
)

// problems is the agent's readiness: what keeps pods on this node from
// working.
func (a *Agent) problems() []string {
	n := a.node.Load()
	if n == nil {
		return []string{a.phase.Load().(string)}
	}
	problems := append(n.reconcilers.all.Problems(), a.proxy.problems()...)
	if !n.serving.Load() {
		problems = append(problems, "the CNI socket is not served")
	}
	if !a.cni.written() {
		problems = append(problems, "the CNI configuration is not written")
	}
	return problems
}

// status reads everything back.
func (a *Agent) status(ctx context.Context) api.Status {
	problems := a.problems()
	s := api.Status{
		Version: version.Version, Kernel: kernelRelease(), Node: a.cfg.NodeName, Cluster: a.cfg.ClusterName, Started: a.started,
		Ready: len(problems) == 0, NotReady: problems,
		Kubernetes: a.kubernetes(ctx),
		CNI:        api.CNI{Config: a.cni.onNode, Written: a.cni.written()},
		Warnings:   a.warnings(),

		NetworkPolicies: a.kube.networkPolicies(),
	}
	n := a.node.Load()
	if n == nil {
		return s
	}
	var warnings []string
	s.Datapath, warnings = a.datapath(ctx, n)
	s.Warnings = append(s.Warnings, warnings...)
	s.IPAM = a.ipam(n)
	s.LeftOut = n.leftOut.Get()
	s.Endpoints = n.eps.count()
	if a.kube.identities.HasSynced() {
		s.Identities = new(a.kube.identities.Numbers().Count())
	}
	s.ClusterHealth = n.clusterHealth()
	if n.flows != nil {
		s.Flows = new(n.flows.Stats())
		s.Flows.Metrics = a.cfg.Flows.Metrics
	}
	s.CNI.Serving = n.serving.Load()
	s.Reconcilers = n.reconcilers.all.Health()
	return s
}

// kernelRelease is what uname -r prints; empty where it is not to be had.
func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// kubernetes asks the API server for its version, for at most two seconds.
func (a *Agent) kubernetes(ctx context.Context) api.Kubernetes {
	k := api.Kubernetes{Server: a.server, APIs: a.kube.watches()}
	if nodes, err := a.kube.nodes.List(labels.Everything()); err == nil {
		k.Nodes = len(nodes)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	v, err := a.client.Discovery().ServerVersionWithContext(ctx)
	if err != nil {
		k.Error = err.Error()
		return k
	}
	k.Version, k.Reachable = v.GitVersion, true
	return k
}

func (a *Agent) ipam(n *node) *api.IPAM {
	i := &api.IPAM{Mode: a.cfg.IPAM.Mode, CIDR: n.pool.CIDR(), Used: n.pool.Used(), Capacity: n.pool.Capacity(), Resting: n.pool.Resting()}
	if a.kube.pool != "" {
		i.Pool, i.MaskSize = a.cfg.IPAM.Operator.ClusterPoolIPv4PodCIDRList, a.cfg.IPAM.Operator.ClusterPoolIPv4MaskSize
	}
	return i
}

// warnings are things that work otherwise than one may expect.
func (a *Agent) warnings() []string {
	var out []string
	warn := func(format string, names []string) {
		if len(names) > 0 {
			out = append(out, fmt.Sprintf(format, strings.Join(names, ", ")))
		}
	}
	warn("the container runtime takes another CNI configuration before ours: %s", a.cni.rivals())
	if nodes, err := a.kube.nodeList(); err == nil && a.cfg.EnableIPv4Masquerade {
		warn("traffic to pods outside "+a.cfg.IPv4NativeRoutingCIDR.String()+" is masqueraded: %s", outsideNative(nodes, a.cfg.IPv4NativeRoutingCIDR))
	}
	if n := a.node.Load(); n != nil {
		if pool := a.cfg.IPAM.Operator.Pool(); a.kube.pool != "" && !slices.ContainsFunc(pool, func(p netip.Prefix) bool { return contains(p, n.pool.CIDR()) }) {
			warn("the node keeps a podCIDR that is not of the pool "+a.kube.pool+": %s", []string{n.pool.CIDR().String()})
		}
		if n.dp.Config().KubeProxyReplacement {
			warn("devices carry no Services and are not masqueraded at: %s", n.dp.LeftOut())
		}
		if why := n.dp.Unasked(); why != "" {
			out = append(out, why)
		}
		warn("reconcilers are paused, and what they keep is not mended: %s", pausedReconcilers(n.reconcilers.all.Health()))
		warn("no route to the pods of nodes that are not on the same L2: %s", n.skippedNodes())
		warn("endpoints have addresses outside "+n.pool.CIDR().String()+", of an earlier podCIDR: %s", n.eps.outsidePool())
	}
	return out
}

// pausedReconcilers names those that are, and until when.
func pausedReconcilers(all []api.Reconciler) (names []string) {
	for _, h := range all {
		if !h.PausedUntil.IsZero() {
			names = append(names, fmt.Sprintf("%s (until %s)", h.Name, h.PausedUntil.Format(time.TimeOnly)))
		}
	}
	return names
}

// datapath is the node's data plane, with what only the agent knows of it.
func (a *Agent) datapath(ctx context.Context, n *node) (_ *api.Datapath, warnings []string) {
	d, err := n.dp.Status(ctx)
	if len(d.StatefulFirewall) > 0 {
		warnings = append(warnings, fmt.Sprintf("the node's firewall lets forwarded packets pass by their connection's state, and those between pods are kept untracked, "+
			"so it may drop them: set installNoConntrackIptablesRules to false; its rules are %s", strings.Join(d.StatefulFirewall, "; ")))
	}
	d.Routing.Skipped = n.skippedNodes()
	if err != nil {
		d.Error = err.Error()
	}
	return &d, warnings
}

// snapshot is what the metrics are made of.
func (a *Agent) snapshot() snapshot {
	now := snapshot{ready: len(a.problems()) == 0}
	n := a.node.Load()
	if n == nil {
		return now
	}
	now.endpoints, now.ipam, now.reconcilers = n.eps.count(), a.ipam(n), n.reconcilers.all.Health()
	now.health = n.clusterHealth()
	packets, err := n.dp.Metrics()
	if err != nil {
		a.log.Warn("read the packet counters", "err", err)
	}
	now.packets = packets
	return now
}
