package labs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/kube"
)

// reachedByAll counts the nodes of which is holds for every agent that probes; -1 when none does.
func reachedByAll(nodes []NodeStatus, is func(api.NodeHealth) bool) int {
	n, anyProbes := 0, false
	for _, target := range nodes {
		ok := true
		for _, from := range nodes {
			if from.Agent == nil || from.Agent.ClusterHealth == nil {
				continue
			}
			anyProbes = true
			h, known := healthOf(from, target.Name)
			ok = ok && known && is(h)
		}
		if ok {
			n++
		}
	}
	if !anyProbes {
		return -1
	}
	return n
}

// silent are the nodes that run and do not say whom they reach: their agent does not answer, or cannot probe.
func silent(nodes []NodeStatus) (out []kube.Problem) {
	for _, n := range nodes {
		why := ""
		switch {
		case n.Down != "":
		case n.Agent == nil:
			why = "cannot say: " + n.AgentError
		case n.Agent.ClusterHealth != nil && n.Agent.ClusterHealth.Error != "":
			why = "cannot probe others: " + n.Agent.ClusterHealth.Error
		}
		if why != "" {
			out = append(out, nodeProblem(n.Name, why))
		}
	}
	return out
}

func nodeProblem(node, why string) kube.Problem {
	return kube.Problem{Want: "node " + node, Why: why, Blame: kube.Object{Kind: "Node", Name: node}}
}

// unreached are the nodes that others do not reach in every way: a problem for each way in which one is not, with the nodes
// from where. What was seen before the node's agent has started says nothing about now, and of a node that is down no more
// needs to be said.
func unreached(nodes []NodeStatus) (out []kube.Problem) {
	for _, target := range nodes {
		if target.Down != "" {
			continue
		}
		var sentences []string
		from := map[string][]string{}
		for _, n := range nodes {
			h, ok := healthOf(n, target.Name)
			if !ok || h.Failing == "" || target.Agent != nil && h.ProbedAt.Before(target.Agent.Started) {
				continue
			}
			if from[h.Failing] == nil {
				sentences = append(sentences, h.Failing)
			}
			from[h.Failing] = append(from[h.Failing], n.Name)
		}
		for _, s := range sentences {
			how, ways, _ := strings.Cut(strings.TrimPrefix(s, "node "+target.Name+" "), ": ")
			why := fmt.Sprintf("%s from %s: %s", how, strings.Join(from[s], ", "), ways)
			out = append(out, nodeProblem(target.Name, why))
		}
	}
	return out
}

// nodesReached wants every agent to reach every node that runs, where they probe each other.
func (l *Lab) nodesReached() kube.Want {
	return kube.Want{Name: "nodes to reach each other", Look: func(ctx context.Context) (kube.State, error) {
		agents, err := l.agentPods(ctx)
		if err != nil {
			return kube.State{}, err
		}
		nodes := make([]NodeStatus, len(l.Nodes))
		var wg sync.WaitGroup
		for i, n := range l.Nodes {
			wg.Go(func() { nodes[i] = l.nodeStatus(ctx, n, nil, agents[n.Name]) })
		}
		wg.Wait()
		return allReached(nodes), nil
	}}
}

// allReached is ready when all agents have answered, and have probed all nodes and reached them.
func allReached(nodes []NodeStatus) kube.State {
	if found := slices.Concat(silent(nodes), unreached(nodes)); len(found) > 0 {
		return kube.State{Why: found[0].Why, Blame: found[0].Blame}
	}
	for _, from := range nodes {
		if from.Down != "" || from.Agent.ClusterHealth == nil {
			continue
		}
		for _, to := range nodes {
			h, ok := healthOf(from, to.Name)
			fresh := to.Agent == nil || !h.ProbedAt.Before(to.Agent.Started)
			if to.Down == "" && (!ok || h.Reached != api.Reached || !fresh) {
				return kube.State{Why: "has not probed node " + to.Name + " yet", Blame: kube.Object{Kind: "Node", Name: from.Name}}
			}
		}
	}
	return kube.State{Ready: true}
}

// healthOf is what a node's agent found out about another node.
func healthOf(n NodeStatus, other string) (api.NodeHealth, bool) {
	if n.Agent == nil || n.Agent.ClusterHealth == nil {
		return api.NodeHealth{}, false
	}
	i := slices.IndexFunc(n.Agent.ClusterHealth.Nodes, func(h api.NodeHealth) bool { return h.Name == other })
	if i < 0 {
		return api.NodeHealth{}, false
	}
	return n.Agent.ClusterHealth.Nodes[i], true
}

// cordons are the nodes that take no new pods, and what they are.
func (l *Lab) cordons(ctx context.Context, nodes []corev1.Node) (map[string]string, error) {
	out := map[string]string{}
	for _, n := range nodes {
		if !n.Spec.Unschedulable {
			continue
		}
		pods, err := l.podsOn(ctx, n.Name)
		if err != nil {
			return nil, err
		}
		out[n.Name] = cordon(pods)
	}
	return out, nil
}

// podsOn are all pods of a node, by its full name.
func (l *Lab) podsOn(ctx context.Context, node string) ([]corev1.Pod, error) {
	pods, err := l.Kube.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		return nil, fmt.Errorf("list pods of node %s: %w", node, err)
	}
	return pods.Items, nil
}

// cordon says what a node without new pods is, by those it has. Kubernetes keeps no record of a node being drained: some of
// the pods that others may take over are being deleted, or all are gone.
func cordon(pods []corev1.Pod) string {
	stay, leave := 0, 0
	for i := range pods {
		p := &pods[i]
		owner := metav1.GetControllerOf(p)
		switch {
		case p.Annotations[corev1.MirrorPodAnnotationKey] != "", owner != nil && owner.Kind == "DaemonSet",
			p.Status.Phase == corev1.PodSucceeded, p.Status.Phase == corev1.PodFailed:
		case p.DeletionTimestamp != nil:
			leave++
		default:
			stay++
		}
	}
	switch {
	case leave > 0:
		return "draining"
	case stay == 0:
		return "drained"
	}
	return "cordoned"
}
