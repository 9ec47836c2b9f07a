//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// testOperator kills the operator, uses the pool up, and has a node that waits get what another one had. Pools are used up
// by LabNodes of nodes that are not there.
func testOperator(t *testing.T, lab string) {
	const operator = "app.kubernetes.io/name=wirelab-operator"
	podCIDRs := func() string {
		return kubectl(t, lab, "get", "labnodes", "-o", `jsonpath={range .items[*]}{.metadata.name}={.spec.podCIDRs[0]} {end}`)
	}
	before := podCIDRs()
	if strings.Count(before, "=10.") != 3 {
		t.Fatalf("not every node has a podCIDR: %s", before)
	}
	// Killed, it comes back and leads again; nobody's podCIDR changes.
	killed := podsOf(t, lab, "kube-system", operator)
	if len(killed) != 1 {
		t.Fatalf("there are %d operators", len(killed))
	}
	onNode(t, killed[0].Node, "pkill", "-KILL", "-x", "wirelab-operato") // 15 letters of a name are all there is
	// One CIDR for all that is left, held by a node that is not there.
	var hogs strings.Builder
	held := []string{"10.0.3.0/24", "10.0.4.0/22", "10.0.8.0/21", "10.0.16.0/20", "10.0.32.0/19", "10.0.64.0/18", "10.0.128.0/17", "10.1.0.0/16", "10.2.0.0/15", "10.4.0.0/14", "10.8.0.0/13"}
	for i, cidr := range held {
		fmt.Fprintf(&hogs, "---\napiVersion: wirelab.dev/v1alpha1\nkind: LabNode\nmetadata: {name: hog-%d}\nspec: {nodeUID: none, podCIDRs: [%s]}\n", i, cidr)
	}
	apply(t, lab, hogs.String())
	apply(t, lab, "apiVersion: wirelab.dev/v1alpha1\nkind: LabNode\nmetadata: {name: late}\nspec: {nodeUID: none}\n")
	problem := func() string { return kubectl(t, lab, "get", "labnode", "late", "-o", "jsonpath={.status.problem}") }
	eventually(t, time.Minute, "that the pool is used up is said", func() string {
		event := kubectl(t, lab, "get", "events", "-n", "default", "--field-selector", "involvedObject.name=late", "-o", "jsonpath={.items[*].message}")
		if p := problem(); !strings.Contains(p, "10.0.0.0/12") || p != event {
			return fmt.Sprintf("problem %q, event %q", p, event)
		}
		return ""
	})
	// A LabNode without a node is marked with the time, and goes two minutes after that: two minutes are over where the mark
	// says so. What it had is free at once for who waits.
	const mark = "wirelab.dev/node-gone-since"
	eventually(t, time.Minute, "LabNodes of nodes that are not there are marked", func() string {
		marks := kubectl(t, lab, "get", "labnodes", "-o", `jsonpath={range .items[*]}{.metadata.annotations.wirelab\.dev/node-gone-since} {end}`)
		if n := len(strings.Fields(marks)); n != len(held)+1 {
			return fmt.Sprintf("%d are: %s", n, marks)
		}
		return ""
	})
	old := mark + "=" + time.Now().Add(-2*time.Minute).UTC().Format(time.RFC3339)
	kubectl(t, lab, "annotate", "--overwrite", "labnode", "hog-0", old)
	eventually(t, time.Minute, "who waits gets what is free", func() string {
		have, p := podCIDRs(), problem()
		if !strings.Contains(have, "late="+held[0]) || strings.Contains(have, "hog-0=") || p != "" {
			return fmt.Sprintf("%s, problem %q", have, p)
		}
		return ""
	})
	if have := podCIDRs(); strings.Count(have, "hog-") != len(held)-1 {
		t.Errorf("LabNodes are collected before their time: %s", have)
	}
	rest := []string{"annotate", "--overwrite", "labnode", "late"}
	for i := range held[1:] {
		rest = append(rest, fmt.Sprintf("hog-%d", i+1))
	}
	kubectl(t, lab, append(rest, old)...)
	eventually(t, time.Minute, "LabNodes of nodes that are not there are collected", func() string {
		if left := kubectl(t, lab, "get", "labnodes", "-o", "name"); strings.Contains(left, "hog-") || strings.Contains(left, "late") {
			return left
		}
		return ""
	})
	if after := podCIDRs(); after != before {
		t.Errorf("podCIDRs were %s and are %s", before, after)
	}
}
