//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"
)

// testFeatures: every node lists the same features, and those that a lab of the profile vxlan has are on there.
func testFeatures(t *testing.T, name string) {
	type feature struct{ Name, State, Value string }
	var nodes []struct {
		Node    string
		Entries []feature
	}
	labJSON(t, &nodes, "features", "--name", name)
	if len(nodes) != 3 {
		t.Fatalf("features of %d nodes: %v", len(nodes), nodes)
	}
	for _, n := range nodes {
		if !slices.EqualFunc(n.Entries, nodes[0].Entries, func(a, b feature) bool { return a.Name == b.Name && a.State == b.State }) {
			t.Errorf("%s lists %v, and %s %v", n.Node, n.Entries, nodes[0].Node, nodes[0].Entries)
		}
		for _, want := range []feature{
			{"Tunnel (VXLAN)", "on", "lab_vxlan, port 8472"},
			{"Tunnel (Geneve)", "off", ""},
			{"Native routing", "off", ""},
			{"BPF host routing", "on", "BPF"},
			{"Masquerading (BPF)", "on", "eth0"},
			{"Masquerading (iptables)", "off", ""},
			{"Monitor", "on", "aggregation none"},
			{"NetworkPolicy", "not implemented", ""},
		} {
			if !slices.Contains(n.Entries, want) {
				t.Errorf("%s has no %v in %v", n.Node, want, n.Entries)
			}
		}
	}
	text := mustLab(t, "features", "--name", name).stdout
	if strings.Count(text, "\n") <= len(nodes[0].Entries) || strings.Count(text, "Tunnel (VXLAN)") != 1 {
		t.Errorf("as text not each feature is there, and what nodes have alike once:\n%s", text)
	}
}
