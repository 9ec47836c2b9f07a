package labs

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/internal/api"
)

// TestUnreachedNodesAreProblems: each way that fails is said once, with the nodes from where.
func TestUnreachedNodesAreProblems(t *testing.T) {
	const why = "node c is partly reached: its address 192.0.2.3 by tcp, not by icmp (no answer)"
	now := time.Now()
	node := func(name string, failing map[string]string) NodeStatus {
		h := &api.ClusterHealth{}
		for _, other := range []string{"a", "b", "c"} {
			h.Nodes = append(h.Nodes, api.NodeHealth{Name: other, Failing: failing[other], ProbedAt: now})
		}
		return NodeStatus{Name: name, Agent: &api.Status{ClusterHealth: h, Started: now.Add(-time.Minute)}}
	}
	texts := func(nodes ...NodeStatus) string {
		var out []string
		for _, p := range unreached(nodes) {
			out = append(out, p.Want+" "+p.Why)
		}
		return strings.Join(out, "\n")
	}
	nodes := []NodeStatus{node("a", map[string]string{"c": why}), node("b", map[string]string{"c": why}), node("c", map[string]string{"b": "node b is not reached: x"})}
	want := "node b is not reached from c: x\nnode c is partly reached from a, b: its address 192.0.2.3 by tcp, not by icmp (no answer)"
	if got := texts(nodes...); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	nodes[2].Agent.Started = now.Add(time.Second)
	if got := texts(nodes...); got != "node b is not reached from c: x" {
		t.Errorf("what was found before the agent of c has started: %s", got)
	}
	nodes[1].Down = "is stopped"
	if got := texts(nodes...); got != "" {
		t.Errorf("of a node that is stopped: %s", got)
	}
	if got := texts(node("a", nil), NodeStatus{Name: "b"}); got != "" {
		t.Errorf("all are reached, and %s", got)
	}
}

// TestAllReached: what is not known yet is waited for, a node that is down is not.
func TestAllReached(t *testing.T) {
	now := time.Now()
	nodes := func() []NodeStatus {
		var all []NodeStatus
		for _, name := range []string{"a", "b"} {
			h := &api.ClusterHealth{}
			for _, other := range []string{"a", "b"} {
				h.Nodes = append(h.Nodes, api.NodeHealth{Name: other, Reached: api.Reached, ProbedAt: now})
			}
			all = append(all, NodeStatus{Name: name, Agent: &api.Status{ClusterHealth: h, Started: now.Add(-time.Minute)}})
		}
		return all
	}
	for _, tt := range []struct {
		change func([]NodeStatus)
		why    string
	}{
		{func([]NodeStatus) {}, ""},
		{func(n []NodeStatus) { n[0].Agent.ClusterHealth.Nodes = n[0].Agent.ClusterHealth.Nodes[:1] }, "has not probed node b yet"},
		{func(n []NodeStatus) { n[0].Agent.ClusterHealth.Nodes[1] = api.NodeHealth{Name: "b"} }, "has not probed node b yet"},
		{func(n []NodeStatus) { n[1].Agent.Started = now.Add(time.Second) }, "has not probed node b yet"},
		{func(n []NodeStatus) { n[0].Agent.ClusterHealth.Nodes[1].Failing = "node b is not reached: x" }, "is not reached from a: x"},
		{func(n []NodeStatus) { n[0].Agent.ClusterHealth.Error = "no address is free" }, "cannot probe others: no address is free"},
		{func(n []NodeStatus) { n[0].Agent, n[0].AgentError = nil, "no agent pod on this node" }, "cannot say: no agent pod on this node"},
		{func(n []NodeStatus) { n[0].Agent.ClusterHealth, n[1].Agent.ClusterHealth = nil, nil }, ""},
		{func(n []NodeStatus) {
			n[1].Agent, n[1].Down = nil, "is stopped"
			n[0].Agent.ClusterHealth.Nodes[1] = api.NodeHealth{Name: "b", Reached: api.NotReached, Failing: "node b is not reached: x", ProbedAt: now}
		}, ""},
	} {
		all := nodes()
		tt.change(all)
		if got := allReached(all); got.Why != tt.why || got.Ready != (tt.why == "") {
			t.Errorf("%+v, want %q", got, tt.why)
		}
		// What lab up refuses lab status names, but for what is not known yet.
		named := len(silent(all))+len(unreached(all)) > 0
		if want := tt.why != "" && !strings.HasSuffix(tt.why, " yet"); named != want {
			t.Errorf("%q: named by lab status: %t, want %t", tt.why, named, want)
		}
	}
}

func TestCordon(t *testing.T) {
	isController := true
	pod := func(change func(*corev1.Pod)) corev1.Pod {
		p := corev1.Pod{}
		change(&p)
		return p
	}
	web := pod(func(*corev1.Pod) {})
	leaving := pod(func(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.Now()) })
	daemon := pod(func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "DaemonSet", Controller: &isController}}
	})
	static := pod(func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} })
	ended := pod(func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
	for want, pods := range map[string][]corev1.Pod{
		"cordoned": {web, daemon}, "draining": {web, leaving, static}, "drained": {daemon, static, ended},
	} {
		if got := cordon(pods); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
