package verify

import (
	"bytes"
	"strings"
	"testing"
)

func TestPathTable(t *testing.T) {
	const atClientPod, atClientVeth, atNICs = "client pod eth0", "client's host-side veth", "node NICs"
	const across, same = "across nodes, ICMP", "same node, ICMP"
	results := []Result{
		{Name: "paths/hops-same-node", Cells: []Cell{
			{atClientPod, same, "R[64] P[63]", "R[64] P[63]"}, {atClientVeth, same, "R[64]", "R[64]"}, {atNICs, same, "-", "-"},
		}},
		{Name: "paths/arp"},
		{Name: "paths/hops-across-nodes", Cells: []Cell{
			{atClientPod, across, "R[64] P[62]", "R[64] P[62]"},
			{atClientVeth, across, "R[64]", "R[64]"}, {atClientVeth, across, "R[64] P[62]", "R[64]"},
			{atNICs, across, "R[63] P[63]", "R[63] P[63]"},
		}},
		{Name: "host/drops-bypassed", Cells: []Cell{{"FORWARD -j DROP", across, "lost", "passes"}}},
	}
	const want = `
Packets seen on their way: requests R and replies P, in brackets the TTL; - none of them
passes, lost: whether packets got through while a rule of iptables would have dropped them
!SEEN, want WANTED: another thing than the lab's mode has to show
ONE; OTHER: not the same between all pairs of pods

                         same node, ICMP  across nodes, ICMP
client pod eth0          R[64] P[63]      R[64] P[62]
client's host-side veth  R[64]            R[64]; !R[64] P[62], want R[64]
node NICs                -                R[63] P[63]
FORWARD -j DROP                           !lost, want passes
`
	var b bytes.Buffer
	tableOf(results).write(&b)
	if b.String() != want {
		t.Errorf("the table is\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	tableOf(results[1:2]).write(&b)
	if b.Len() > 0 {
		t.Errorf("a table without cells: %s", b.String())
	}
}

// TestLegend: it has no line for what no cell has.
func TestLegend(t *testing.T) {
	for cell, want := range map[string]string{
		"R[63] P[63]": "", "-": "",
		"R[64 in vxlan] P[64 in vxlan]": "[64 in vxlan] or [64 in geneve]: inside a packet of the tunnel",
		"no":                            "yes, no: whether the nodes' stacks had to do with them",
	} {
		got := tableOf([]Result{{Cells: []Cell{{"x", "across nodes, ICMP", cell, cell}}}}).legend()
		if strings.Join(got, "\n") != want {
			t.Errorf("of a cell %q the legend is %q, want %q", cell, got, want)
		}
	}
}
