package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/internal/crd"
)

// labNode keeps the spec of the node's own LabNode what the Node's object says.
type labNode struct {
	objects  crd.Resource[*crd.LabNode, *crd.LabNodeList]
	kube     *kube
	nodeName string
}

// apply makes the object, or changes it where it says something else.
func (l labNode) apply(ctx context.Context) error {
	if err := l.listed(ctx); err != nil {
		return err
	}
	node, err := l.kube.nodes.Get(l.nodeName)
	if err != nil {
		return fmt.Errorf("look up this node: %w", err)
	}
	have := l.kube.labNodes.Find(l.nodeName)
	want := l.spec(node, have)
	switch {
	case have == nil:
		made := &crd.LabNode{ObjectMeta: metav1.ObjectMeta{Name: l.nodeName}, Spec: want}
		_, err = l.objects.Create(ctx, made, metav1.CreateOptions{})
	case sameSpec(have.Spec, want):
		return nil
	default:
		changed := have.DeepCopy()
		changed.Spec = want
		_, err = l.objects.Update(ctx, changed, metav1.UpdateOptions{}) // refused when have is old
	}
	if err != nil {
		return fmt.Errorf("write LabNode %s: %w", l.nodeName, crd.Explain(crd.LabNodes, err))
	}
	return nil
}

// listed returns why there is no list of LabNodes yet.
func (l labNode) listed(ctx context.Context) error {
	if l.kube.labNodes.HasSynced() {
		return nil
	}
	if _, err := l.objects.List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
		return fmt.Errorf("list LabNodes: %w", crd.Explain(crd.LabNodes, err))
	}
	return errors.New("the list of LabNodes is on its way")
}

// spec is what the Node's object says. The podCIDRs of a pool are the operator's to write.
func (l labNode) spec(node *corev1.Node, have *crd.LabNode) crd.LabNodeSpec {
	s := crd.LabNodeSpec{NodeUID: node.UID, Addresses: internalIPs(node)}
	switch {
	case l.kube.pool == "":
		s.PodCIDRs = podCIDRs(node)
	case have != nil:
		s.PodCIDRs = have.Spec.PodCIDRs
	}
	return s
}

func sameSpec(a, b crd.LabNodeSpec) bool {
	return a.NodeUID == b.NodeUID && slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.PodCIDRs, b.PodCIDRs)
}
