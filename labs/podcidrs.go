package labs

import (
	"context"
	"fmt"
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/internal/crd"
)

// PodCIDRs is what the nodes' pods have their addresses from, by node, as the nodes' LabNodes say. Nodes that have none yet
// are not in it.
func (l *Lab) PodCIDRs(ctx context.Context) (map[string]netip.Prefix, error) {
	objects, err := crd.NewClient(l.Kube.Config)
	if err != nil {
		return nil, err
	}
	list, err := objects.Nodes.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list LabNodes of lab %q: %w", l.Name, crd.Explain(crd.LabNodes, err))
	}
	out := map[string]netip.Prefix{}
	for _, n := range list.Items {
		if len(n.Spec.PodCIDRs) > 0 {
			out[n.Name] = n.Spec.PodCIDRs[0]
		}
	}
	return out, nil
}
