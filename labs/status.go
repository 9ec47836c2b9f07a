package labs

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/verify/probe"
)

// Status is how a lab is, as its cluster and the agents on its nodes say now.
type Status struct {
	Lab     string `json:"lab"`
	Profile string `json:"profile"`
	Mode    string `json:"mode"`
	// MadeBy is the version of the lab command that set it up last.
	MadeBy     string `json:"madeBy,omitempty"`
	Context    string `json:"context"`
	Kubeconfig string `json:"kubeconfig,omitempty"` // the file that has the context; empty: the user's
	Kubernetes string `json:"kubernetes"`           // the API server's version; empty when it did not say
	// Ready means that everything lab up waits for holds now, and that all nodes reach each other; Problems is what does not.
	// A node that no agent has probed yet is waited for by lab up alone: nothing is wrong with it.
	Ready    bool           `json:"ready"`
	Problems []kube.Problem `json:"problems,omitempty"`
	Sum      Sum            `json:"sum"`
	Nodes    []NodeStatus   `json:"nodes"` // sorted by name
}

// Sum adds up what the nodes say.
type Sum struct {
	Nodes      int `json:"nodes"`
	NodesReady int `json:"nodesReady"`
	// NodesReached are reached by every agent that answered, in every way that they probe; -1 when none probes.
	NodesReached int `json:"nodesReached"`
	// NodesByICMP and NodesByTCP are those that every agent reaches by the one or the other.
	NodesByICMP int `json:"nodesByICMP"`
	NodesByTCP  int `json:"nodesByTCP"`
	Agents      int `json:"agents"` // that answered
	AgentsReady int `json:"agentsReady"`
	// AgentsToKubernetes are those that reach the API server.
	AgentsToKubernetes int `json:"agentsToKubernetes"`
	Reconcilers        int `json:"reconcilers"`
	ReconcilersOK      int `json:"reconcilersHealthy"`
	Endpoints          int `json:"endpoints"`
	AddressesUsed      int `json:"addressesUsed"`
	AddressesTotal     int `json:"addressesTotal"`
	// NetworkPolicies is how many the cluster has, of which none is enforced; nil when no agent knows.
	NetworkPolicies *int `json:"networkPolicies,omitempty"`
}

// NodeStatus is one node and its agent.
type NodeStatus struct {
	Name    string `json:"name"`
	Role    string `json:"role"`
	IP      string `json:"ip"`
	PodCIDR string `json:"podCIDR,omitempty"`
	Kubelet string `json:"kubelet,omitempty"`
	Runtime string `json:"runtime,omitempty"` // of containers, with its version
	Ready   bool   `json:"ready"`
	// Cordoned is set where new pods stay away: "cordoned", or with pods that are to leave "draining", or when they have
	// left "drained".
	Cordoned string `json:"cordoned,omitempty"`
	// Down says that the node's container does not run: "is paused", "is stopped". Empty when it does.
	Down string `json:"down,omitempty"`
	// Agent is what the node's agent reports; nil when it did not, and AgentError says why then.
	Agent      *api.Status `json:"agent,omitempty"`
	AgentError string      `json:"agentError,omitempty"`
}

// Status asks everything at once. It returns an error only when the API server does not answer; what else is wrong is in
// the Status.
func (l *Lab) Status(ctx context.Context) (*Status, error) {
	defer telling(l.say, "waiting for the API server and the agents of lab "+l.Name)()
	s := &Status{
		Lab: l.Name, Profile: l.Profile.Metadata.Name, Mode: string(l.Profile.Mode()), MadeBy: l.MadeBy,
		Context: ContextName(l.Name), Nodes: make([]NodeStatus, len(l.Nodes)),
	}
	v, err := l.Kube.Discovery().ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("ask the API server of lab %q: %w", l.Name, err)
	}
	s.Kubernetes = v.GitVersion
	if s.Kubeconfig, err = kubeconfigOf(ctx, l.Cluster); err != nil {
		return nil, err
	}
	nodes, err := l.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes of lab %q: %w", l.Name, err)
	}
	agents, err := l.agentPods(ctx)
	if err != nil {
		return nil, err
	}
	cordons, err := l.cordons(ctx, nodes.Items)
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.Problems = kube.Look(ctx, l.wants(probe.DefaultTimeout)...) })
	for i, n := range l.Nodes {
		wg.Go(func() {
			s.Nodes[i] = l.nodeStatus(ctx, n, nodes.Items, agents[n.Name])
			s.Nodes[i].Cordoned = cordons[n.Name]
		})
	}
	wg.Wait()
	s.Problems = slices.Concat(l.downProblems(), s.Problems, silent(s.Nodes), unreached(s.Nodes))
	s.Ready = len(s.Problems) == 0
	s.Sum = sumOf(s.Nodes)
	return s, nil
}

// downProblems are the nodes that do not run, first among what is wrong: the rest follows from them.
func (l *Lab) downProblems() (out []kube.Problem) {
	down := l.down()
	for _, name := range slices.Sorted(maps.Keys(down)) {
		out = append(out, nodeProblem(name, down[name]))
	}
	return out
}

// agentPods are the agents' pods by node.
func (l *Lab) agentPods(ctx context.Context) (map[string]*corev1.Pod, error) {
	pods, err := l.Kube.CoreV1().Pods(SystemNamespace).List(ctx, metav1.ListOptions{LabelSelector: agentLabel})
	if err != nil {
		return nil, fmt.Errorf("list agent pods of lab %q: %w", l.Name, err)
	}
	out := map[string]*corev1.Pod{}
	for i := range pods.Items {
		p := &pods.Items[i]
		if have := out[p.Spec.NodeName]; have == nil || p.DeletionTimestamp == nil {
			out[p.Spec.NodeName] = p
		}
	}
	return out, nil
}

func (l *Lab) nodeStatus(ctx context.Context, n cluster.Node, known []corev1.Node, agent *corev1.Pod) NodeStatus {
	s := NodeStatus{Name: n.Name, Role: n.Role, IP: n.IP.String()}
	if i := slices.IndexFunc(known, func(k corev1.Node) bool { return k.Name == n.Name }); i >= 0 {
		k := known[i]
		s.Kubelet, s.Runtime = k.Status.NodeInfo.KubeletVersion, k.Status.NodeInfo.ContainerRuntimeVersion
		s.Ready = isReady(k)
	}
	if why := n.Down(); why != "" {
		// What the API server still says of it is old.
		s.Ready, s.AgentError, s.Down = false, "the node "+why, why
		return s
	}
	st, err := askAgent[*api.Status](ctx, l, agent, "status")
	if err != nil {
		s.AgentError = explainKubelet(n.Name, "the agent", err).Error()
		s.Ready = s.Ready && !noKubelet(err) // what the API server says of it is old
		return s
	}
	s.Agent = st
	if st.IPAM != nil {
		s.PodCIDR = st.IPAM.CIDR.String()
	}
	return s
}

func sumOf(nodes []NodeStatus) Sum {
	s := Sum{Nodes: len(nodes)}
	for _, n := range nodes {
		if n.Ready {
			s.NodesReady++
		}
		a := n.Agent
		if a == nil {
			continue
		}
		s.Agents++
		if a.Ready {
			s.AgentsReady++
		}
		if a.Kubernetes.Reachable {
			s.AgentsToKubernetes++
		}
		for _, r := range a.Reconcilers {
			s.Reconcilers++
			if r.Healthy {
				s.ReconcilersOK++
			}
		}
		s.Endpoints += a.Endpoints
		if p := a.NetworkPolicies; p != nil && (s.NetworkPolicies == nil || *p > *s.NetworkPolicies) {
			s.NetworkPolicies = p
		}
		if a.IPAM != nil {
			s.AddressesUsed += a.IPAM.Used
			s.AddressesTotal += a.IPAM.Capacity
		}
	}
	probed := func(is func(api.NodeHealth) bool) int { return reachedByAll(nodes, is) }
	if s.NodesReached = probed(func(h api.NodeHealth) bool { return h.Reached == api.Reached }); s.NodesReached >= 0 {
		s.NodesByICMP = probed(func(h api.NodeHealth) bool { return h.AnswersBy("icmp") })
		s.NodesByTCP = probed(func(h api.NodeHealth) bool { return h.AnswersBy("tcp") })
	}
	return s
}

// Pods lists the names of pods as namespace/name, for completion.
func (l *Lab) Pods(ctx context.Context) ([]string, error) {
	pods, err := l.listPods(ctx, metav1.NamespaceAll)
	return namesOf(pods), err
}

// PodsWithAddress is Pods without those that have no address of their own: [Lab.PodAddr] finds the others.
func (l *Lab) PodsWithAddress(ctx context.Context) ([]string, error) {
	pods, err := l.listPods(ctx, metav1.NamespaceAll)
	return namesOf(withAddress(pods)), err
}

func (l *Lab) listPods(ctx context.Context, namespace string) ([]corev1.Pod, error) {
	pods, err := l.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list pods of lab %q: %w", l.Name, err)
	}
	return pods.Items, nil
}

// withAddress are the pods that have an address of their own.
func withAddress(pods []corev1.Pod) []corev1.Pod {
	return slices.DeleteFunc(pods, func(p corev1.Pod) bool { return p.Spec.HostNetwork || p.Status.PodIP == "" })
}

// namesOf are the names of pods as namespace/name.
func namesOf(pods []corev1.Pod) (out []string) {
	for _, p := range pods {
		out = append(out, p.Namespace+"/"+p.Name)
	}
	return out
}

// Services lists the names of Services as namespace/name, for completion.
func (l *Lab) Services(ctx context.Context) ([]string, error) {
	services, err := l.listServices(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(services))
	for _, s := range services {
		out = append(out, s.Namespace+"/"+s.Name)
	}
	return out, nil
}

// ServicesByAddress are the Services that have an address of their own in the cluster.
func (l *Lab) ServicesByAddress(ctx context.Context) (map[netip.Addr]types.NamespacedName, error) {
	services, err := l.listServices(ctx)
	if err != nil {
		return nil, err
	}
	out := map[netip.Addr]types.NamespacedName{}
	for _, s := range services {
		for _, ip := range s.Spec.ClusterIPs {
			if addr, err := netip.ParseAddr(ip); err == nil { // a headless one has none
				out[addr] = types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
			}
		}
	}
	return out, nil
}

func (l *Lab) listServices(ctx context.Context) ([]corev1.Service, error) {
	services, err := l.Kube.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list Services of lab %q: %w", l.Name, err)
	}
	return services.Items, nil
}
