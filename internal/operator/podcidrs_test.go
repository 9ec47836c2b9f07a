package operator

import (
	"net/netip"
	"testing"

	"wirelab.dev/wirelab/internal/crd"
)

// TestEndpointsAreNothingToTheGiver: what nodes say of their pods, every second at times, has nobody look for podCIDRs.
func TestEndpointsAreNothingToTheGiver(t *testing.T) {
	node := func(change func(*crd.LabNode)) *crd.LabNode {
		n := &crd.LabNode{}
		if change != nil {
			change(n)
		}
		return n
	}
	given := func(n *crd.LabNode) { n.Spec.PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")} }
	for name, tc := range map[string]struct {
		a, b *crd.LabNode
		same bool
	}{
		"it came":      {nil, node(nil), false},
		"it went":      {node(nil), nil, false},
		"given":        {node(nil), node(given), false},
		"taken":        {node(given), node(nil), false},
		"a problem":    {node(nil), node(func(n *crd.LabNode) { n.Status.Problem = "x" }), false},
		"endpoints":    {node(given), node(func(n *crd.LabNode) { given(n); n.Status.EndpointCount = 2 }), true},
		"another mark": {node(nil), node(func(n *crd.LabNode) { n.Annotations = map[string]string{crd.Leader: "x"} }), true},
	} {
		if got := sameToGiver(tc.a, tc.b); got != tc.same {
			t.Errorf("%s: the same %v", name, got)
		}
	}
}
