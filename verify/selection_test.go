package verify

import (
	"context"
	"errors"
	"strings"
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
		report, _ := Run(t.Context(), Config{Kind: Kind{Mode: ModeKubeProxy, Settings: map[string]string{}, Nodes: 2}}, sel, all, &lifecycle{size: 2, err: opens})
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

// TestWhatIsNotKnownOfALabLeavesNothingOut: and what needs more nodes than there are is no check of the lab.
func TestWhatIsNotKnownOfALabLeavesNothingOut(t *testing.T) {
	all := []Check{{Name: "a/mode", Modes: []string{ModeEBPF}}, {Name: "a/settings", Settings: []string{"x=y"}}, {Name: "a/nodes", MinNodes: 2}}
	for _, tt := range []struct {
		kind    Kind
		picked  int
		refused string
	}{
		{Kind{}, 3, ""},
		{Kind{Mode: ModeEBPF, Settings: map[string]string{"x": "y"}, Nodes: 2}, 3, ""},
		{Kind{Mode: ModeKubeProxy}, 2, ""},
		{Kind{Settings: map[string]string{}}, 2, ""},
		{Kind{Nodes: 1}, 2, ""},
		{Kind{Mode: ModeKubeProxy, Settings: map[string]string{}, Nodes: 1}, 0, "need more nodes than the lab's 1"},
	} {
		picked, skipped, err := Selection{}.Select(all, tt.kind)
		if tt.refused != "" {
			if err == nil || !strings.Contains(err.Error(), tt.refused) {
				t.Errorf("%+v: error %v, want %q", tt.kind, err, tt.refused)
			}
			continue
		}
		if err != nil || len(picked) != tt.picked || len(skipped) != len(all)-tt.picked {
			t.Errorf("%+v: %d are picked and %d skipped, error %v; want %d picked", tt.kind, len(picked), len(skipped), err, tt.picked)
		}
	}
}
