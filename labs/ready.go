package labs

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/labs/demo"
	"wirelab.dev/wirelab/profiles"
)

// awaitReady waits until the lab does what it is for.
func (u *up) awaitReady(ctx context.Context, say func(string)) (string, error) {
	l, err := u.open(ctx)
	if err != nil {
		return "", err
	}
	var kubelets, restarted []kube.Want
	for _, n := range l.running() {
		kubelets = append(kubelets, l.kubeletAnswers(n.Name))
	}
	for _, n := range slices.Concat(u.started, u.resumed) {
		restarted = append(restarted, l.Kube.HeardSince(u.restarted, n))
	}
	if len(u.started) > 0 {
		restarted = append(restarted, l.Kube.StartedSince(u.restarted, u.started...))
	}
	wants := slices.Concat(kubelets, l.wants(dnsAgain), restarted) // kubelets first, as the rest follows from them
	tell := waitingFor(say)
	note := fmt.Sprintf("%d nodes, agent, DNS", len(l.Nodes)) + demoNote(u.Profile)
	defer l.hasten(ctx)()
	if u.existing != nil {
		first := slices.Concat(kubelets, []kube.Want{l.agentReady()}, restarted)
		if err := u.kube.WaitFor(ctx, u.ReadyTimeout, tell, first...); err != nil {
			return "", err
		}
		n := 0
		if err := u.kube.WaitFor(ctx, u.ReadyTimeout, tell, l.rescued(u.programs, &n)); err != nil {
			return "", err
		}
		note += replacedNote(n)
	}
	ahead, stop := context.WithCancel(ctx)
	defer stop()
	var checks sync.WaitGroup
	checks.Go(func() { u.beginVerify(ahead, l) })
	err = u.kube.WaitFor(ctx, u.ReadyTimeout, tell, wants...)
	if err != nil {
		stop()
	}
	checks.Wait()
	if err != nil {
		return "", err
	}
	// By itself, as it asks every agent each time.
	if err := u.kube.WaitFor(ctx, u.ReadyTimeout, tell, l.nodesReached()); err != nil {
		return "", err
	}
	return note, nil
}

// rescued wants no pod to be without its interface: those that are get replaced, and are counted in n. A kubelet that has
// reported takes a moment more until it lets anybody at its pods, and the DaemonSet may be called ready for what was there
// before a node was restarted.
func (l *Lab) rescued(i programs, n *int) kube.Want {
	return kube.Want{Name: "pods to have their interfaces", Look: func(ctx context.Context) (kube.State, error) {
		more, err := l.replaceStranded(ctx)
		if *n += more; err == nil && *n > 0 && l.Profile.Demo.Enabled {
			err = applyDemo(ctx, l.Kube, l.Profile, i) // the demo's shell pod has no controller but us
		}
		return kube.State{Ready: err == nil}, err
	}}
}

func replacedNote(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; %d pods that had lost their interface replaced", n)
}

func (l *Lab) agentReady() kube.Want {
	return l.Kube.DaemonSetReady("agent", SystemNamespace, agentName, len(l.Nodes))
}

func demoNote(p *profiles.Profile) string {
	if p.Demo.Enabled {
		return ", demo"
	}
	return ""
}

// wants are what a ready lab has. The agent first: without it nothing else gets ready, and an error names the first thing missing.
// dns bounds a question to DNS.
func (l *Lab) wants(dns time.Duration) []kube.Want {
	return slices.Concat(l.networkWants(), l.controllers(), l.nodeWants(), []kube.Want{l.coreDNSReady(), l.dnsAnswers(dns)}, l.workloadWants())
}

// networkWants are the network's own parts.
func (l *Lab) networkWants() []kube.Want {
	return []kube.Want{l.agentReady(), l.Kube.DeploymentReady("operator", SystemNamespace, operatorName)}
}

// nodeWants are the nodes that run.
func (l *Lab) nodeWants() (out []kube.Want) {
	for _, n := range l.running() {
		out = append(out, l.Kube.NodeReady(n.Name))
	}
	return out
}

// coreDNSReady is DNS as far as the API server tells. One of its two pods is enough, as it is for kubeadm's Deployment: a kubelet
// that has just started takes up to 10 s, at random, until it probes the other (pkg/kubelet/prober/worker.go, run).
func (l *Lab) coreDNSReady() kube.Want {
	return l.Kube.DeploymentAvailable("CoreDNS", SystemNamespace, coreDNSName)
}

// workloadWants are what the profile asks for besides the network.
func (l *Lab) workloadWants() []kube.Want {
	var out []kube.Want
	if l.Profile.Network.Flows.Relay.Enabled {
		out = append(out, l.Kube.DeploymentReady("relay", SystemNamespace, relayName))
	}
	if l.Profile.Demo.Enabled {
		out = append(out,
			l.Kube.DaemonSetReady("demo", demo.Namespace, demo.Name, 0),
			l.Kube.HasEndpoints("demo's endpoints", demo.Namespace, demo.Name),
			l.Kube.PodReady("pod "+demo.Shell, demo.Namespace, demo.Shell),
		)
	}
	return out
}

// controllers are those of Kubernetes without which no pod gets a node and no Service its endpoints. When they have lost the API
// server they end, and are started again at intervals that double.
func (l *Lab) controllers() []kube.Want {
	return []kube.Want{l.Kube.Leads("kube-controller-manager"), l.Kube.Leads("kube-scheduler")}
}

// running are the nodes that run.
func (l *Lab) running() []cluster.Node {
	return slices.DeleteFunc(slices.Clone(l.Nodes), func(n cluster.Node) bool { return n.Down() != "" })
}
