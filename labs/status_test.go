package labs

import (
	"slices"
	"testing"

	"k8s.io/client-go/kubernetes/fake"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/profiles"
)

// TestSilentAgentIsAProblem: of a node that runs; of one that is down it is said that it is.
func TestSilentAgentIsAProblem(t *testing.T) {
	l := &Lab{
		Name: "l", Profile: &profiles.Profile{}, Nodes: []cluster.Node{{Name: "l-worker", Running: true}, {Name: "l-worker2", Paused: true}},
		Kube: &kube.Client{Interface: fake.NewClientset()}, Cluster: &cluster.Cluster{},
	}
	s, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for node, want := range map[string]string{"l-worker": "cannot say: no agent pod on this node", "l-worker2": "is paused: lab up starts or resumes it"} {
		var whys []string
		for _, p := range s.Problems {
			if p.Blame == (kube.Object{Kind: "Node", Name: node}) && p.Want == "node "+node {
				whys = append(whys, p.Why)
			}
		}
		if s.Ready || !slices.Contains(whys, want) || node == "l-worker2" && len(whys) != 1 {
			t.Errorf("of %s, ready %t: %q, want %q", node, s.Ready, whys, want)
		}
	}
}

func TestSum(t *testing.T) {
	health := func(reached ...bool) *api.ClusterHealth {
		h := &api.ClusterHealth{}
		for i, name := range []string{"a", "b"} {
			n := api.NodeHealth{Name: name, Reached: api.Reached, Probes: []api.Probe{{Protocol: "icmp"}, {Protocol: "tcp"}}}
			if !reached[i] {
				n.Reached, n.Probes[0].Error = api.ReachedPartly, "no answer"
			}
			h.Nodes = append(h.Nodes, n)
		}
		return h
	}
	agent := func(h *api.ClusterHealth) *api.Status {
		return &api.Status{
			Ready: true, Kubernetes: api.Kubernetes{Reachable: true}, Endpoints: 2, IPAM: &api.IPAM{Used: 3, Capacity: 253},
			Reconcilers: []api.Reconciler{{Healthy: true}, {}}, ClusterHealth: h,
		}
	}
	for _, tt := range []struct {
		name    string
		a, b    *api.Status
		reached int
		byTCP   int
	}{
		{"all well", agent(health(true, true)), agent(health(true, true)), 2, 2},
		{"one does not reach the other", agent(health(true, false)), agent(health(true, true)), 1, 2},
		{"none reaches itself", agent(health(false, true)), agent(health(true, false)), 0, 2},
		{"one agent is silent", agent(health(true, true)), nil, 2, 2},
		{"nobody probes", agent(nil), agent(nil), -1, 0},
	} {
		got := sumOf([]NodeStatus{{Name: "a", Ready: true, Agent: tt.a}, {Name: "b", Agent: tt.b}})
		n := 1
		if tt.b != nil {
			n = 2
		}
		want := Sum{
			Nodes: 2, NodesReady: 1, NodesReached: tt.reached, NodesByICMP: max(tt.reached, 0), NodesByTCP: tt.byTCP, Agents: n, AgentsReady: n, AgentsToKubernetes: n,
			Reconcilers: 2 * n, ReconcilersOK: n, Endpoints: 2 * n, AddressesUsed: 3 * n, AddressesTotal: 253 * n,
		}
		if got != want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, want)
		}
	}
}

// TestSumOfPolicies takes the number of the agent that knows of most: others may
// not have heard yet.
func TestSumOfPolicies(t *testing.T) {
	sum := func(counts ...*int) *int {
		var nodes []NodeStatus
		for _, n := range counts {
			nodes = append(nodes, NodeStatus{Agent: &api.Status{NetworkPolicies: n}})
		}
		return sumOf(nodes).NetworkPolicies
	}
	if got := sum(new(0), new(3), nil, new(2)); got == nil || *got != 3 {
		t.Errorf("got %v, want 3", got)
	}
	if got := sum(nil, new(0)); got == nil || *got != 0 {
		t.Errorf("got %v, want 0", got)
	}
	if got := sum(nil); got != nil {
		t.Errorf("got %d, and no agent knows", *got)
	}
}
