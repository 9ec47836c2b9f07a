package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/crd"
)

// self is what this node is told about itself by the API server.
type self struct {
	IP      netip.Addr
	PodCIDR netip.Prefix
}

// selfFrom reads it from the node's object. The error says what is missing
// and who has to provide it.
func selfFrom(node *corev1.Node) (self, error) {
	ip := internalIP(node)
	cidrs := podCIDRs(node)
	switch {
	case !ip.IsValid():
		return self{}, fmt.Errorf("node %s has no IPv4 InternalIP yet: the kubelet or the cloud provider reports it", node.Name)
	case len(cidrs) == 0:
		return self{}, fmt.Errorf("node %s has no IPv4 podCIDR yet: the kube-controller-manager assigns it when it runs with --allocate-node-cidrs and --cluster-cidr", node.Name)
	}
	return self{IP: ip, PodCIDR: cidrs[0]}, nil
}

func waitsForSelf(nodeName string) string {
	return "waiting for the address and podCIDR of node " + nodeName
}

// awaitSelf waits until this node has an address and a podCIDR, for which it
// keeps its LabNode.
func (k *kube) awaitSelf(ctx context.Context, own labNode, say func(error), log *slog.Logger) (self, error) {
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	var said string
	var lastSaid, next time.Time
	var applied error
	wait := 100 * time.Millisecond // after a failure; longer after each further one
	for {
		s, err := k.self(own.nodeName)
		if err == nil {
			return s, nil
		}
		if k.pool != "" && !time.Now().Before(next) {
			if applied = own.apply(ctx); applied != nil {
				next, wait = time.Now().Add(wait), min(2*wait, 5*time.Second)
			}
		}
		if applied != nil {
			err = applied
		}
		if err.Error() != said || time.Since(lastSaid) > 15*time.Second {
			log.Warn("waiting for what this node is told by Kubernetes", "err", err)
			say(err)
			said, lastSaid = err.Error(), time.Now()
		}
		select {
		case <-ctx.Done():
			return self{}, errors.Join(err, ctx.Err())
		case <-poll.C:
		}
	}
}

func (k *kube) self(nodeName string) (self, error) {
	node, err := k.nodes.Get(nodeName)
	if err != nil {
		return self{}, fmt.Errorf("look up this node: %w", err)
	}
	if k.pool == "" {
		return selfFrom(node)
	}
	return selfInPool(node, k.labNodes.Find(nodeName), k.pool)
}

// selfInPool is selfFrom where the operator gives out podCIDRs. A LabNode of a
// Node that went before this one is not this node's until its agent has written
// it: the operator may be about to take it away.
func selfInPool(node *corev1.Node, own *crd.LabNode, pool string) (self, error) {
	ip := internalIP(node)
	switch {
	case !ip.IsValid():
		return selfFrom(node) // and what it says about that
	case own == nil || own.Spec.NodeUID != node.UID:
		return self{}, fmt.Errorf("node %s has no LabNode of its own yet", node.Name)
	case own.Status.Problem != "":
		return self{}, errors.New(own.Status.Problem)
	case len(own.Spec.PodCIDRs) == 0:
		return self{}, fmt.Errorf("node %s has no podCIDR yet: the operator gives it out of ipam.operator.clusterPoolIPv4PodCIDRList (%s)", node.Name, pool)
	}
	return self{IP: ip, PodCIDR: own.Spec.PodCIDRs[0].Masked()}, nil
}

// podCIDRs are those that the node's pods have their addresses from.
func (k *kube) podCIDRs(node *corev1.Node) []netip.Prefix {
	if k.pool == "" {
		return podCIDRs(node)
	}
	own := k.labNodes.Find(node.Name)
	if own == nil {
		return nil
	}
	return own.Spec.PodCIDRs
}

// nodeList is all nodes that have an address, this one included, sorted by
// name. One that is new may have no podCIDRs yet.
func (k *kube) nodeList() ([]datapath.Node, error) {
	objs, err := k.nodes.List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	nodes := make([]datapath.Node, 0, len(objs))
	for _, obj := range objs {
		n := datapath.Node{Name: obj.Name, IP: internalIP(obj), PodCIDRs: k.podCIDRs(obj)}
		if n.IP.IsValid() {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b datapath.Node) int { return cmp.Compare(a.Name, b.Name) })
	return nodes, nil
}

// zone is the zone that the node is in; empty when it is in none.
func (k *kube) zone(nodeName string) (string, error) {
	node, err := k.nodes.Get(nodeName)
	if err != nil {
		return "", fmt.Errorf("look up this node: %w", err)
	}
	return node.Labels[corev1.LabelTopologyZone], nil
}

// internalIP is the node's first IPv4 address of type InternalIP.
func internalIP(node *corev1.Node) netip.Addr {
	if all := internalIPs(node); len(all) > 0 {
		return all[0]
	}
	return netip.Addr{}
}

// internalIPs are the node's IPv4 addresses of type InternalIP in the order
// Kubernetes has them.
func internalIPs(node *corev1.Node) []netip.Addr {
	var out []netip.Addr
	for _, a := range node.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP && addr.Is4() {
			out = append(out, addr)
		}
	}
	return out
}

// podCIDRs are the node's IPv4 pod CIDRs in the order Kubernetes has them.
func podCIDRs(node *corev1.Node) []netip.Prefix {
	all := node.Spec.PodCIDRs
	if len(all) == 0 && node.Spec.PodCIDR != "" {
		all = []string{node.Spec.PodCIDR}
	}
	var out []netip.Prefix
	for _, s := range all {
		if p, err := netip.ParsePrefix(s); err == nil && p.Addr().Is4() {
			out = append(out, p.Masked())
		}
	}
	return out
}

// outsideNative names the nodes, sorted, with pods outside the native-routing
// CIDR: masquerading hides their peers' addresses from them.
func outsideNative(nodes []datapath.Node, native netip.Prefix) []string {
	var names []string
	for _, n := range nodes {
		for _, p := range n.PodCIDRs {
			if !contains(native, p) {
				names = append(names, fmt.Sprintf("%s (%s)", n.Name, p))
			}
		}
	}
	return names
}

func contains(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}
