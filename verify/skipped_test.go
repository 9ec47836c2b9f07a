package verify

import (
	"context"
	"errors"
	"testing"
)

// TestWhatIsSkippedIsTold: each check is in the report, with its result or with why it has none.
func TestWhatIsSkippedIsTold(t *testing.T) {
	named := func(name string, edit func(*Check)) Check {
		c := checkOf(name, func(_ context.Context, ev *Evidence) error { ev.Saw("it"); return nil })
		edit(&c)
		return c
	}
	all := []Check{
		named("a/runs", func(*Check) {}),
		named("a/mode", func(c *Check) { c.Modes = []string{ModeEBPF} }),
		named("a/settings", func(c *Check) { c.Settings = []string{"x=y"} }),
		named("a/nodes", func(c *Check) { c.MinNodes = 3 }),
		named("a/left-out", func(*Check) {}),
		named("b/other", func(*Check) {}),
	}
	sel := Selection{Only: []string{"a"}, Skip: []string{"a/left-out"}}
	why := map[string]string{
		"a/mode": "it is claimed of mode ebpf, and the lab's is kubeproxy", "a/settings": "it is claimed of labs with x=y", "a/nodes": "it needs 3 nodes, and the lab has 2",
		"a/left-out": "--skip or the profile's verify.skip leaves it out", "b/other": "--only does not pick it",
	}
	for _, opens := range []error{nil, errors.New("no node")} {
		report, _ := Run(t.Context(), Config{Mode: ModeKubeProxy}, sel, all, &lifecycle{size: 2, err: opens})
		names := map[string]int{}
		for _, r := range report.Results {
			names[r.Name]++
		}
		for _, s := range report.Skipped {
			names[s.Name]++
			if s.Why != why[s.Name] {
				t.Errorf("%s is skipped: %q, want %q", s.Name, s.Why, why[s.Name])
			}
		}
		for _, c := range all {
			if names[c.Name] != 1 {
				t.Errorf("%s is in the report %d times", c.Name, names[c.Name])
			}
		}
	}
}
