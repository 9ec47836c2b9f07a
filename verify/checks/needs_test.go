package checks

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
)

// kept is an Env as a run of the world would have it that was to lay out parts.
func (w *world) kept(parts []verify.Part) *field.Env {
	has := func(part verify.Part) bool { return slices.Contains(verify.Whole(parts), part) }
	env := &field.Env{Config: w.env.Config, Outside: field.Peer{Prober: field.NotLaidOut(verify.Outside)}, Leaver: field.Peer{Prober: field.NotLaidOut(verify.Services)}}
	for _, of := range w.env.Nodes {
		n := *of
		if !has(verify.Nodes) {
			n.Prober, n.Port = field.NotLaidOut(verify.Nodes), 0
		}
		for _, pod := range []*field.Peer{&n.Client, &n.Server} {
			if !has(verify.Pods) {
				pod.Prober, pod.Addr = field.NotLaidOut(verify.Pods), netip.Addr{}
			}
		}
		env.Nodes = append(env.Nodes, &n)
	}
	if has(verify.Services) {
		env.Every, env.One, env.Headless, env.Sticky, env.Local, env.Empty = w.env.Every, w.env.One, w.env.Headless, w.env.Sticky, w.env.Local, w.env.Empty
		env.Changing, env.Leaver = w.env.Changing, w.env.Leaver
	}
	if has(verify.Outside) {
		env.Outside = w.env.Outside
	}
	if has(verify.Native) {
		env.Native = w.env.Native
	}
	if has(verify.Demo) {
		env.DemoPods = w.env.DemoPods
	}
	return env
}

// TestEachCheckNeedsWhatItSays runs every check with just what it says that it
// needs, and then with one part less at a time, which it has to notice. In one
// mode only of those that a check holds in: what it looks with is the same.
func TestEachCheckNeedsWhatItSays(t *testing.T) {
	tried := map[string]bool{}
	inEachNetwork(t, func(t *testing.T, w *world, checks []verify.Check) {
		for _, check := range checks {
			if tried[check.Name] {
				continue
			}
			tried[check.Name] = true
			with := func(parts []verify.Part) verify.Result {
				w := newWorld(t, w.network)
				all := All(w.kept(parts))
				return runIn(t, w, all[slices.IndexFunc(all, func(c verify.Check) bool { return c.Name == check.Name })])
			}
			if got := with(check.Needs); got.Status != verify.Pass {
				t.Errorf("%s, with nothing but %v: %s %s %v", check.Name, check.Needs, got.Status, got.Error, got.Wrong)
			}
			for i, part := range check.Needs {
				if got := with(slices.Delete(slices.Clone(check.Needs), i, i+1)); got.Status == verify.Pass && !servesOtherLabs(check.Name) {
					t.Errorf("%s passes without %s, which it says that it needs", check.Name, part)
				}
			}
		}
	})
}

// servesOtherLabs tells of checks that need the run's own Services where a lab has no demo, as the model has.
func servesOtherLabs(name string) bool { return name == "rules/service-in-iptables" }

func TestDemoNeedsNoPodsOfOurs(t *testing.T) {
	for _, check := range All(nil) {
		if strings.HasPrefix(check.Name, "demo/") && slices.ContainsFunc(verify.Whole(check.Needs), func(p verify.Part) bool { return p == verify.Pods || p == verify.Nodes }) {
			t.Errorf("%s needs %v", check.Name, check.Needs)
		}
	}
}
