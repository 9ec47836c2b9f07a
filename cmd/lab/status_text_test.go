package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/labs"
)

// agentOf is the status of an agent where all is well.
func agentOf(addr, podCIDR string) *api.Status {
	return &api.Status{
		Version: "v1", Ready: true, Endpoints: 4, Started: time.Now(),
		Kubernetes: api.Kubernetes{Reachable: true, Version: "v1.37.0"},
		IPAM:       &api.IPAM{Mode: "kubernetes", CIDR: netip.MustParsePrefix(podCIDR), Used: 5, Capacity: 253},
		Datapath: &api.Datapath{
			Mode: "ebpf", AttachMode: "tcx",
			Devices:      []api.Device{{Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix(addr + "/16")}}},
			Routing:      api.Routing{Network: "native", Host: "BPF"},
			Masquerading: api.Masquerading{Enabled: true, Kind: "BPF", Devices: []string{"eth0"}, NativeCIDR: netip.MustParsePrefix("10.0.0.0/8")},
			Services:     &api.Services{Devices: []string{"eth0"}, Services: 9, Affinity: 1, Backends: 12},
			Programs:     []api.Program{{Name: "lab_from_pod", ID: 7, AttachedTo: []string{"lxc1"}}},
		},
		Reconcilers:   []api.Reconciler{{Name: "routes", Healthy: true}, {Name: "services", Healthy: true}},
		ClusterHealth: &api.ClusterHealth{Reachable: 2, ICMP: 2, TCP: 2, Nodes: []api.NodeHealth{{Name: "a-control-plane", Reached: api.Reached}, {Name: "a-worker", Reached: api.Reached}}},
	}
}

func twoNodes() *labs.Status {
	return &labs.Status{
		Lab: "a", Profile: "ebpf", Mode: "ebpf", Kubernetes: "v1.37.0", Context: "kind-a", Ready: true,
		Sum: labs.Sum{Nodes: 2, NodesReady: 2, NodesReached: 2, NodesByICMP: 2, NodesByTCP: 2, Agents: 2, AgentsReady: 2, AgentsToKubernetes: 2, Reconcilers: 4, ReconcilersOK: 4, Endpoints: 8, AddressesUsed: 10, AddressesTotal: 506, NetworkPolicies: new(2)},
		Nodes: []labs.NodeStatus{
			{Name: "a-control-plane", Ready: true, IP: "172.18.0.2", PodCIDR: "10.244.0.0/24", Agent: agentOf("172.18.0.2", "10.244.0.0/24")},
			{Name: "a-worker", Ready: true, IP: "172.18.0.3", PodCIDR: "10.244.1.0/24", Agent: agentOf("172.18.0.3", "10.244.1.0/24")},
		},
	}
}

func TestStatusText(t *testing.T) {
	want := `Lab:                   a (ready)
Profile:               ebpf (mode ebpf)
Kubernetes:            v1.37.0, reachable from 2/2 nodes, context kind-a
Nodes:                 2/2 ready
Agents:                2/2 ready, version v1
KubeProxyReplacement:  True [eth0]
Attach Mode:           tcx
Routing:               native
Host Routing:          BPF
Masquerading:          BPF [eth0] 10.0.0.0/8
Services:              9 ports, 1 with session affinity, 12 backends
NetworkPolicies:       2 NetworkPolicies are NOT enforced
IPAM:                  10/506 addresses used, mode kubernetes
Endpoints:             8
Reconcilers:           4/4 healthy
Cluster Health:        2/2 nodes reachable

NODE           READY  ADDRESS     PODS           IPAM   HOST  MASQUERADING  RECONCILERS  HEALTH
control-plane  yes    172.18.0.2  10.244.0.0/24  5/253  BPF   BPF           2/2          2/2
worker         yes    172.18.0.3  10.244.1.0/24  5/253  BPF   BPF           2/2          2/2
`
	got := statusText(twoNodes(), false)
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for line := range strings.Lines(got) {
		if len(line) > 101 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}

// What all nodes leave out is said once, what one does with its name.
func TestStatusTextOfWhatIsLeftOut(t *testing.T) {
	s := twoNodes()
	everywhere := api.LeftOut{Kind: "Service", Namespace: "ns", Name: "a", Reason: "NotCarried", Message: "port 9/SCTP is not carried"}
	s.Nodes[0].Agent.LeftOut = []api.LeftOut{everywhere}
	s.Nodes[1].Agent.LeftOut = []api.LeftOut{{Kind: "Pod", Namespace: "ns", Name: "b", Reason: "NotNodeAddress", Message: "host port 80/tcp is left out"}, everywhere}
	got := statusText(s, false)
	for _, line := range []string{
		"\nLeft out: Service ns/a: port 9/SCTP is not carried (NotCarried)\n", "\nLeft out: Pod ns/b: host port 80/tcp is left out, on worker (NotNodeAddress)\n",
	} {
		if strings.Count(got, line) != 1 {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
}

func TestStatusTextWhereNodesDiffer(t *testing.T) {
	s := twoNodes()
	s.Ready, s.Problems = false, []kube.Problem{
		{Want: "demo", Why: "is ready on 1 of 2 nodes"}, {Want: "node a-worker2", Why: "cannot say: no agent pod on this node"},
	}
	s.Nodes[0].Agent.Datapath.Routing = api.Routing{Network: "native", Host: "Legacy", Reason: "needs BPF masquerade"}
	s.Nodes[0].Agent.Datapath.Services = nil
	s.Nodes[0].Agent.Warnings = []string{"somebody else's configuration comes first"}
	s.Nodes = append(s.Nodes, labs.NodeStatus{Name: "a-worker2", Ready: true, AgentError: "no agent pod on this node"})
	text := statusText(s, false)
	for _, part := range []string{
		"a (NOT READY)",
		"Problem: demo: is ready on 1 of 2 nodes\n",
		"Problem: node control-plane: somebody else's configuration comes first\n",
		"Problem: node a-worker2: cannot say: no agent pod on this node\n",
		"control-plane: Legacy (needs BPF masquerade); worker: BPF\n",
		"control-plane: False; worker: True [eth0]\n",
		"worker2        no agent",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
	if n := strings.Count(text, "no agent pod on this node"); n != 1 {
		t.Errorf("that an agent is silent is said %d times in\n%s", n, text)
	}
}

// TestStatusTextOfServices: what nodes carry besides, for host ports or for Services that stay on a node, is no
// disagreement between them; one that does not know a Service is.
func TestStatusTextOfServices(t *testing.T) {
	s := twoNodes()
	s.Nodes[1].Agent.Datapath.Services.Backends = 14
	if got, want := statusText(s, false), "\nServices:              9 ports, 1 with session affinity, 12 to 14 backends\n"; !strings.Contains(got, want) {
		t.Errorf("no %q in\n%s", want, got)
	}
	s.Nodes[1].Agent.Datapath.Services.Services = 8
	if got, want := statusText(s, false), "control-plane: 9 ports, 1 with session affinity; worker: 8 ports, 1 with session affinity; 12 to 14 backends\n"; !strings.Contains(got, want) {
		t.Errorf("no %q in\n%s", want, got)
	}
}

// TestStatusTextOfHealth: by protocol, where a node answers by one and not by the other.
func TestStatusTextOfHealth(t *testing.T) {
	s := twoNodes()
	s.Sum.NodesReached, s.Sum.NodesByICMP = 1, 1
	h := s.Nodes[0].Agent.ClusterHealth
	h.Reachable, h.Partly, h.ICMP = 1, 1, 1
	got := statusText(s, false)
	for _, want := range []string{"1/2 nodes reachable (icmp 1/2, tcp 2/2)\n", "  icmp 1/2, tcp 2/2\n", "  2/2\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestStatusTextOfCordonedNodes(t *testing.T) {
	s := twoNodes()
	s.Nodes[1].Cordoned = "draining"
	s.Nodes[0].Down = "is paused"
	got := statusText(s, false)
	for _, want := range []string{"Nodes:                 2/2 ready; worker is draining and takes no new pods\n", "worker         yes, draining  172", "control-plane  paused  "} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestStatusVerbose(t *testing.T) {
	s := twoNodes()
	s.Nodes[0].Agent.Reconcilers[0] = api.Reconciler{Name: "routes", LastError: "no route", ConsecutiveFailures: 2}
	s.Nodes[1].Agent = nil
	if text := statusText(s, false); strings.Contains(text, "lab_from_pod") {
		t.Errorf("programs without --verbose:\n%s", text)
	}
	text := statusText(s, true)
	for _, part := range []string{
		"== a-control-plane", "KubeProxyReplacement:  True [eth0 172.18.0.2]", "lab_from_pod:", "failed 2 times in a row", "Session Affinity:  1 of 9 Service ports",
		"== a-worker (, kubelet , )\nno agent\n",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
}
