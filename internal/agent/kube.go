package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	listers "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"

	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/agent/identities"
	"wirelab.dev/wirelab/internal/agent/services"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/apiserver"
	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/watch"
)

// Requests a second, and at once: as many as a node has pods. With client-go's
// own, 5 and 10, pods that start together, each of a set of labels that has no
// identity yet, would wait for each other.
const requestsPerSecond, requestsAtOnce = 20, 110

// Connect returns the API server, asked with the pod's service account if
// kubeconfig is empty.
func Connect(kubeconfig string) (apiserver.Server, error) {
	return apiserver.Connect(kubeconfig, "wirelab-agent", requestsPerSecond, requestsAtOnce)
}

// kube is what the agent watches in the API server: all nodes and LabNodes, the
// pods of its own node, its own DaemonSet, that there are NetworkPolicies and, where it
// carries them, all Services, each without the parts it never reads.
type kube struct {
	nodes        listers.NodeLister
	pods         listers.PodLister
	nodeInf      cache.SharedIndexInformer
	podInf       cache.SharedIndexInformer
	labNodes     crd.Informer[crd.LabNode, *crd.LabNode]
	identities   *identities.Watch
	apiServerInf cache.SharedIndexInformer // the endpoint slice of the Service kubernetes
	pool         string                    // what the operator gives podCIDRs out of; empty where Kubernetes does
	daemonSets   cache.SharedIndexInformer // nil when the agent knows no DaemonSet of its own
	services     *services.Watch           // nil when kube-proxy carries Services
	policies     networkinglisters.NetworkPolicyLister
	policyInf    cache.SharedIndexInformer
}

// newKube makes the informers without starting them. daemonSet is
// namespace/name, or empty.
func newKube(server apiserver.Server, nodeName, daemonSet string) (*kube, error) {
	client := server.Kubernetes
	nodes := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(stripNode))
	pods := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(services.StripPod),
		informers.WithTweakListOptions(selectField("spec.nodeName", nodeName)))
	policies := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(stripPolicy))
	k := &kube{
		nodes:   nodes.Core().V1().Nodes().Lister(),
		nodeInf: nodes.Core().V1().Nodes().Informer(),
		pods:    pods.Core().V1().Pods().Lister(),
		podInf:  pods.Core().V1().Pods().Informer(),

		labNodes: crd.NewInformer(server.Objects.Nodes),

		policies:  policies.Networking().V1().NetworkPolicies().Lister(),
		policyInf: policies.Networking().V1().NetworkPolicies().Informer(),
	}
	err := k.labNodes.SetTransform(stripLabNode)
	if err != nil {
		return nil, fmt.Errorf("strip LabNodes: %w", err)
	}
	apiServers := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(metav1.NamespaceDefault),
		informers.WithTweakListOptions(selectField("metadata.name", "kubernetes")))
	k.apiServerInf = apiServers.Discovery().V1().EndpointSlices().Informer()
	if k.identities, err = identities.NewWatch(server.Objects.Identities); err != nil {
		return nil, err
	}
	if daemonSet == "" {
		return k, nil
	}
	namespace, name, ok := strings.Cut(daemonSet, "/")
	if !ok || namespace == "" || name == "" {
		return nil, fmt.Errorf("daemonSet is %q: want namespace/name", daemonSet)
	}
	own := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace),
		informers.WithTransform(stripDaemonSet), informers.WithTweakListOptions(selectField("metadata.name", name)))
	k.daemonSets = own.Apps().V1().DaemonSets().Informer()
	return k, nil
}

// watches are the kinds of objects that are watched, sorted.
func (k *kube) watches() []string {
	kinds := []string{"core/v1 Node", "core/v1 Pod", "discovery.k8s.io/v1 EndpointSlice", "networking.k8s.io/v1 NetworkPolicy"}
	if k.daemonSets != nil {
		kinds = append(kinds, "apps/v1 DaemonSet")
	}
	if k.services != nil {
		kinds = append(kinds, "core/v1 Service")
	}
	for _, r := range []string{"LabIdentity", "LabNode"} {
		kinds = append(kinds, crd.GroupVersion.String()+" "+r)
	}
	slices.Sort(kinds)
	return kinds
}

func selectField(field, value string) func(*metav1.ListOptions) {
	selector := fields.OneTermEqualSelector(field, value).String()
	return func(o *metav1.ListOptions) { o.FieldSelector = selector }
}

// watching are what keeps the caches until its context is done, but for that of the DaemonSet.
func (k *kube) watching() []func(context.Context) {
	all := []func(context.Context){
		k.nodeInf.RunWithContext, k.podInf.RunWithContext, k.policyInf.RunWithContext, k.labNodes.RunWithContext,
		k.apiServerInf.RunWithContext, k.identities.Run,
	}
	if k.services != nil {
		all = append(all, k.services.Run)
	}
	return all
}

// list is a cache of some objects.
type list struct {
	what string
	inf  cache.SharedIndexInformer
}

// lists are those that the state of the datapath follows from.
func (k *kube) lists() []list {
	all := []list{{"nodes", k.nodeInf}, {"pods of this node", k.podInf}}
	if k.pool != "" {
		all = append(all, list{"LabNodes", k.labNodes})
	}
	if k.services != nil {
		services, slices := k.services.Informers()
		all = append(all, list{"Services", services}, list{"endpoint slices", slices})
	}
	return all
}

// awaitList waits until a cache has its first list, and says every so often
// that it is still waiting.
func (a *Agent) awaitList(ctx context.Context, l list) error {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	remind := time.NewTicker(10 * time.Second)
	defer remind.Stop()
	for !l.inf.HasSynced() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the list of %s: %w", l.what, ctx.Err())
		case <-remind.C:
			a.log.Warn("still waiting for the API server", "for", l.what, "server", a.server)
		case <-poll.C:
		}
	}
	return nil
}

var stripNode = watch.Strip(func(node *corev1.Node) *corev1.Node {
	stripped := &corev1.Node{
		ObjectMeta: watch.Meta(node.ObjectMeta),
		Spec:       corev1.NodeSpec{PodCIDR: node.Spec.PodCIDR, PodCIDRs: node.Spec.PodCIDRs},
		Status:     corev1.NodeStatus{Addresses: node.Status.Addresses},
	}
	if zone := node.Labels[corev1.LabelTopologyZone]; zone != "" {
		stripped.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeNetworkUnavailable {
			stripped.Status.Conditions = append(stripped.Status.Conditions, c)
		}
	}
	return stripped
})

var stripDaemonSet = watch.Strip(func(ds *appsv1.DaemonSet) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{ObjectMeta: watch.Meta(ds.ObjectMeta)}
})

// hostPorts are the host ports of this node's pods, and what is not carried of
// them.
func (k *kube) hostPorts() ([]lb.HostPort, []api.LeftOut, error) {
	pods, err := k.pods.List(labels.Everything())
	if err != nil {
		return nil, nil, fmt.Errorf("list the pods of this node: %w", err)
	}
	ports, leftOut := services.HostPorts(pods)
	return ports, leftOut, nil
}
