package goals

import (
	"slices"
	"strings"
	"testing"

	"wirelab.dev/wirelab/bench"
	"wirelab.dev/wirelab/bench/workload"
)

// Every goal is about paths that are measured, and every path is measured for a goal or beside one.
func TestGoalsAreMeasured(t *testing.T) {
	measured := map[string][]string{}
	for _, kind := range workload.Kinds() {
		measured[string(kind)] = append(paths(kind), bench.SameAgain, "")
		if len(slices.Compact(slices.Sorted(slices.Values(paths(kind))))) != len(paths(kind)) {
			t.Errorf("%s measures a path twice", kind)
		}
	}
	all := Comparisons()
	for _, c := range Controls() {
		all = append(all, c.Comparison)
	}
	for _, c := range all {
		for _, arm := range []string{c.Of, c.By} {
			if !slices.Contains(measured[c.Suite], arm) {
				t.Errorf("%s, %s: %q is not measured by %s", c.ID, c.What, arm, c.Suite)
			}
		}
	}
	for _, c := range Comparisons() {
		if (c.Bar == bench.Bound{}) != strings.HasPrefix(c.ID, "P") && !slices.Contains([]string{"P13", "P14", "P17"}, c.ID) {
			t.Errorf("%s, %s: ratios that carry what all paths cost are for information, and nothing else is", c.ID, c.What)
		}
		if c.Bar == (bench.Bound{}) {
			continue
		}
		if c.Bar.AtLeast != c.Aim.AtLeast || c.Bar.AtLeast != (c.As == bench.Speed) {
			t.Errorf("%s, %s: bar and aim look in different ways, or not in that of what is compared", c.ID, c.What)
		}
		if c.Bar.AtLeast == (c.Bar.Value > c.Aim.Value) && c.Bar.Value != c.Aim.Value {
			t.Errorf("%s, %s: the aim is less than the bar", c.ID, c.What)
		}
	}
}
