package labs

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	wants := l.wants()
	if !u.restarted.IsZero() {
		if len(u.started) > 0 {
			wants = append(wants, l.Kube.StartedSince(u.restarted, u.started...))
		}
		for _, n := range slices.Concat(u.started, u.resumed) {
			wants = append(wants, l.Kube.HeardSince(u.restarted, n))
		}
	}
	tell := func(missing []string) { say("waiting for " + strings.Join(missing, ", ")) }
	note := fmt.Sprintf("%d nodes, agent, DNS", len(l.Nodes)) + demoNote(u.Profile)
	if u.existing != nil {
		first := []kube.Want{l.agentReady()}
		for _, n := range slices.Concat(u.started, u.resumed) {
			first = append(first, l.Kube.HeardSince(u.restarted, n))
		}
		if len(u.started) > 0 {
			first = append(first, l.Kube.StartedSince(u.restarted, u.started...))
		}
		if err := u.kube.WaitFor(ctx, u.ReadyTimeout, tell, first...); err != nil {
			return "", err
		}
		n, err := u.rescue(ctx, l)
		// A kubelet that has reported takes a moment more until it lets anybody at its pods.
		for deadline := time.Now().Add(rescuePatience); err != nil && ctx.Err() == nil && time.Now().Before(deadline); {
			if err := pause(ctx); err != nil {
				return "", err
			}
			var more int
			more, err = u.rescue(ctx, l)
			n += more
		}
		if err != nil {
			return "", err
		}
		if n > 0 {
			note += fmt.Sprintf("; %d pods that had lost their interface replaced", n)
		}
	}
	if err := u.kube.WaitFor(ctx, u.ReadyTimeout, tell, wants...); err != nil {
		return "", err
	}
	// By itself, as it asks every agent each time.
	if err := u.kube.WaitFor(ctx, u.ReadyTimeout, tell, l.nodesReached()); err != nil {
		return "", err
	}
	return note, nil
}

// rescuePatience is how long to try to replace stranded pods.
const rescuePatience = 20 * time.Second

// rescue replaces stranded pods; the demo's shell pod has no controller but us.
func (u *up) rescue(ctx context.Context, l *Lab) (int, error) {
	n, err := l.replaceStranded(ctx)
	if err != nil || n == 0 || !u.Profile.Demo.Enabled {
		return n, err
	}
	return n, u.applyDemo(ctx)
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

// wants are what a ready lab has.
func (l *Lab) wants() []kube.Want {
	// The agent first: without it nothing below gets ready, and an error names the first thing missing.
	out := []kube.Want{l.agentReady()}
	for _, n := range l.Nodes {
		if n.Down() == "" {
			out = append(out, l.Kube.NodeReady(n.Name))
		}
	}
	out = append(out,
		l.Kube.DeploymentReady("CoreDNS", SystemNamespace, "coredns"),
		l.dnsAnswers(),
	)
	if l.Profile.Demo.Enabled {
		out = append(out,
			l.Kube.DaemonSetReady("demo", demo.Namespace, demo.Name, 0),
			l.Kube.PodReady("pod "+demo.Shell, demo.Namespace, demo.Shell),
		)
	}
	return out
}

// runningNode is the first node that runs.
func (l *Lab) runningNode() (cluster.Node, bool) {
	i := slices.IndexFunc(l.Nodes, func(n cluster.Node) bool { return n.Down() == "" })
	if i < 0 {
		return cluster.Node{}, false
	}
	return l.Nodes[i], true
}

// dnsLabel is that of CoreDNS's pods; the name is older than CoreDNS.
const dnsLabel = "k8s-app=kube-dns"

// dnsAnswers wants every CoreDNS pod to answer a question asked from the first node. A pod that Kubernetes calls
// ready may still be out of reach.
func (l *Lab) dnsAnswers() kube.Want {
	return kube.Want{Name: "DNS", Look: func(ctx context.Context) (kube.State, error) {
		from, ok := l.runningNode()
		if !ok {
			return kube.State{Why: "no node runs to ask from"}, nil
		}
		pods, err := l.Kube.CoreV1().Pods(SystemNamespace).List(ctx, metav1.ListOptions{LabelSelector: dnsLabel})
		if err != nil {
			return kube.State{}, fmt.Errorf("list CoreDNS pods: %w", err)
		}
		asked := 0
		for i := range pods.Items {
			p := &pods.Items[i]
			if !kube.IsReady(p) {
				continue
			}
			asked++
			addr, err := netip.ParseAddr(p.Status.PodIP)
			if err != nil {
				return kube.State{}, fmt.Errorf("ask pod %s/%s, which has no address yet: %w", p.Namespace, p.Name, err)
			}
			if err := askDNS(ctx, from, addr); err != nil {
				return kube.State{
					Why:   fmt.Sprintf("does not answer node %s: %v", from.Name, err),
					Blame: kube.Object{Kind: "Pod", Namespace: p.Namespace, Name: p.Name},
				}, nil
			}
		}
		if asked == 0 {
			return kube.State{Why: "no CoreDNS pod is ready to be asked"}, nil
		}
		return kube.State{Ready: true}, nil
	}}
}

// askDNS asks a DNS server for the API server's name, from a node and over UDP. Every node image has bash and coreutils;
// cat sends the question in one write, so in one packet.
func askDNS(ctx context.Context, from cluster.Node, server netip.Addr) error {
	query, err := kube.DNSQuery(kube.APIServerName)
	if err != nil {
		return err
	}
	script := fmt.Sprintf(`exec 3<>/dev/udp/%s/53 && cat >&3 && timeout 2 dd bs=4096 count=1 <&3 2>/dev/null | od -An -v -tx1`, server)
	cmd := []string{"bash", "-c", script}
	r, err := from.RunInput(ctx, strings.NewReader(string(query)), cmd...)
	if err == nil {
		err = r.Err("ask", server.String())
	}
	if err != nil {
		return err
	}
	answer, err := hex.DecodeString(strings.Join(strings.Fields(string(r.Stdout)), ""))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if len(answer) == 0 {
		return fmt.Errorf("no answer from %s within 2 s", server)
	}
	_, err = kube.DNSAnswer(answer)
	return err
}
