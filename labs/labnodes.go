package labs

import (
	"context"
	"fmt"
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/verify/field"
)

// labNodes is what the nodes' LabNodes tell checks, by node.
func (l *Lab) labNodes(ctx context.Context) (map[string]field.LabNode, error) {
	objects, err := crd.NewClient(l.Kube.Config)
	if err != nil {
		return nil, err
	}
	list, err := objects.Nodes.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list LabNodes of lab %q: %w", l.Name, crd.Explain(crd.LabNodes, err))
	}
	out := map[string]field.LabNode{}
	for _, n := range list.Items {
		told := field.LabNode{Endpoints: map[netip.Addr]uint32{}}
		if len(n.Spec.PodCIDRs) > 0 {
			told.PodCIDR = n.Spec.PodCIDRs[0]
		}
		for _, e := range n.Status.Endpoints {
			told.Endpoints[e.Address] = e.Identity
		}
		out[n.Name] = told
	}
	return out, nil
}
