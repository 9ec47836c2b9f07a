package agent

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"wirelab.dev/wirelab/internal/agent/services"
	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/watch"
)

// watchKube has informers trigger the reconcilers whose desired state they
// change, and reports on changed what an agent cannot follow: another address
// or podCIDR of its own node.
func (n *node) watchKube(k *kube, nodeName string, changed chan<- error) error {
	othersChanged := func() {
		n.reconcilers.routes.Trigger()
		n.reconcilers.ipcache.Trigger()
		n.reconcilers.masquerade.Trigger()
		n.reconcilers.untracked.Trigger()
	}
	nodeChanged := func(old, now *corev1.Node) {
		if node := cmp.Or(now, old); node != nil && node.Name == nodeName {
			n.reconcilers.labNode.Trigger()
			n.reconcilers.condition.Trigger()
			n.reconcilers.services.Trigger() // its zone may be another
			n.compareSelf(k, nodeName, changed)
		}
		if !sameToUs(old, now) {
			othersChanged()
		}
	}
	podChanged := func(old, now *corev1.Pod) {
		if !sameIdentity(old, now) {
			n.reconcilers.identities.Trigger()
		}
		if hasHostPorts(old) || hasHostPorts(now) {
			n.reconcilers.hostPorts.Trigger()
			n.reconcilers.services.Trigger()
		}
	}
	labNodeChanged := func(old, now *crd.LabNode) {
		if (old == nil || old.Name == nodeName) && (now == nil || now.Name == nodeName) {
			n.reconcilers.labNode.Trigger()
			n.reconcilers.published.Trigger()
			n.compareSelf(k, nodeName, changed)
		}
		if k.pool != "" && (old == nil || now == nil || !slices.Equal(old.Spec.PodCIDRs, now.Spec.PodCIDRs)) {
			othersChanged()
		}
		n.reconcilers.ipcache.Trigger()
	}
	apiServerChanged := func(_, _ *discoveryv1.EndpointSlice) { n.reconcilers.ipcache.Trigger() }
	err := errors.Join(
		watch.Follow(k.labNodes, "LabNodes", labNodeChanged),
		watch.Follow(k.nodeInf, "nodes", nodeChanged),
		watch.Follow(k.podInf, "pods", podChanged),
		watch.Follow(k.apiServerInf, "the API server's addresses", apiServerChanged),
	)
	k.identities.Follow(n.reconcilers.identities.Trigger)
	if k.services == nil || err != nil {
		return err
	}
	return k.services.Follow(n.reconcilers.services.Trigger)
}

// compareSelf reports a node that became another. One that lost its address
// or podCIDR for now has not: it keeps what it had.
func (n *node) compareSelf(k *kube, nodeName string, changed chan<- error) {
	s, err := k.self(nodeName)
	if err != nil || s == n.self {
		return
	}
	select {
	case changed <- fmt.Errorf("start anew: this node was %s with podCIDR %s and is now %s with %s",
		n.self.IP, n.self.PodCIDR, s.IP, s.PodCIDR):
	default: // said already
	}
}

// sameToUs reports whether routes and masquerading are the same for both.
func sameToUs(a, b *corev1.Node) bool {
	if a == nil || b == nil {
		return false
	}
	return internalIP(a) == internalIP(b) && slices.Equal(podCIDRs(a), podCIDRs(b))
}

// sameIdentity reports whether the identity that follows from a pod, and
// whether it is that of an endpoint, are the same for both.
func sameIdentity(a, b *corev1.Pod) bool {
	if a == nil || b == nil {
		return false
	}
	return a.UID == b.UID && a.Status.PodIP == b.Status.PodIP && maps.Equal(a.Labels, b.Labels)
}

func hasHostPorts(pod *corev1.Pod) bool { return pod != nil && len(services.HostPortsOf(pod)) > 0 }
