package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func saw(context.Context, *Evidence) error { return nil }

func checkOf(name string, run func(context.Context, *Evidence) error) Check {
	return Check{Name: name, Claim: "It holds.", Run: run}
}

func TestVerdicts(t *testing.T) {
	broken := errors.New("no such pod")
	for _, test := range []struct {
		name string
		run  func(context.Context, *Evidence) error
		want Status
		err  string
	}{
		{"saw", func(_ context.Context, ev *Evidence) error { ev.Saw("it"); return nil }, Pass, ""},
		{"wrong", func(_ context.Context, ev *Evidence) error { ev.Saw("it"); ev.Wrong("it", "it", "not it"); return nil }, Fail, ""},
		{"not able to look", func(context.Context, *Evidence) error { return broken }, Error, "no such pod"},
		{"saw half and then was not able to look", func(_ context.Context, ev *Evidence) error { ev.Saw("it"); return broken }, Error, "no such pod"},
		{"wrong and then not able to look", func(_ context.Context, ev *Evidence) error { ev.Wrong("it", "it", "not it"); return broken }, Fail, "no such pod"},
		{"saw nothing", saw, Error, "proves nothing"},
		{"panics", func(context.Context, *Evidence) error { panic("oops") }, Error, "panicked: oops"},
		{"panics in a part", func(context.Context, *Evidence) error {
			return Each([]int{1}, func(int) error { panic("oops") })
		}, Error, "panicked: oops"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := checkOf("a/b", test.run).Look(t.Context(), time.Second)
			if got.Status != test.want || !strings.Contains(got.Error, test.err) {
				t.Errorf("got %s, %q; want %s, %q", got.Status, got.Error, test.want, test.err)
			}
		})
	}
}

func TestCheckDeadlineIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := checkOf("a/b", func(ctx context.Context, ev *Evidence) error {
			ev.Saw("half")
			<-ctx.Done()
			return ctx.Err()
		}).Look(t.Context(), 3*time.Second)
		if got.Status != Error || !strings.Contains(got.Error, "no result within 3s") || got.Duration != 3*time.Second {
			t.Errorf("got %+v", got)
		}
	})
}

func TestChecksRunAtOnceUpToTheLimitAndKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int32
		var checks []Check
		for i := range 9 {
			checks = append(checks, checkOf(fmt.Sprintf("a/%d", i), func(_ context.Context, ev *Evidence) error {
				most.Store(max(most.Load(), running.Add(1)))
				time.Sleep(time.Duration(9-i) * placeFor / 10)
				running.Add(-1)
				ev.Saw("it")
				return nil
			}))
		}
		var seen []int
		cfg := Config{Parallel: 3, CheckTimeout: time.Minute, Progress: func(p Progress) { seen = append(seen, p.Done) }}
		results := runChecks(t.Context(), cfg, checks)
		if most.Load() != 3 {
			t.Errorf("%d ran at once, want 3", most.Load())
		}
		for i, r := range results {
			if r.Name != checks[i].Name || r.Status != Pass {
				t.Errorf("result %d: %+v", i, r)
			}
		}
		if len(seen) != 9 || seen[8] != 9 {
			t.Errorf("progress: %v", seen)
		}
	})
}

// Of checks that wait in vain, two run at once, two more when these have waited for a while, and the fifth when one has ended.
func TestChecksThatWaitKeepNoOthersWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := make(chan time.Duration, 5)
		began := time.Now()
		wait := checkOf("a/waits", func(ctx context.Context, _ *Evidence) error {
			begun <- time.Since(began)
			<-ctx.Done()
			return ctx.Err()
		})
		results := runChecks(t.Context(), Config{Parallel: 2, CheckTimeout: time.Minute, Progress: func(Progress) {}}, []Check{wait, wait, wait, wait, wait})
		for _, want := range []time.Duration{0, 0, placeFor, placeFor, time.Minute} {
			if at := <-begun; at != want {
				t.Errorf("begun after %s, want %s", at, want)
			}
		}
		if took := time.Since(began); len(results) != 5 || took != 2*time.Minute {
			t.Errorf("%d results after %s", len(results), took)
		}
	})
}

// lifecycle counts what Run does with a field.
type lifecycle struct {
	setUp, removed int
	size           int
	parts          []Part
	cleanCtx       error
	err, removeErr error
}

func (l *lifecycle) Open(_ context.Context, parts []Part) error {
	l.setUp++
	l.parts = parts
	return l.err
}

func (l *lifecycle) Size() int { return l.size }

func (l *lifecycle) Close(ctx context.Context) error {
	l.removed++
	l.cleanCtx = ctx.Err()
	return l.removeErr
}

func TestRunCleansUp(t *testing.T) {
	pass := checkOf("a/pass", func(_ context.Context, ev *Evidence) error { ev.Saw("it"); return nil })
	t.Run("after checks", func(t *testing.T) {
		l := &lifecycle{}
		report, err := Run(t.Context(), Config{}, Selection{}, []Check{pass}, l)
		if err != nil || !report.Passed() || l.removed != 1 {
			t.Errorf("report %+v, error %v, removed %d times", report, err, l.removed)
		}
	})
	t.Run("after a setup that failed", func(t *testing.T) {
		l := &lifecycle{err: errors.New("no node")}
		report, err := Run(t.Context(), Config{}, Selection{}, []Check{pass}, l)
		if err == nil || !strings.Contains(err.Error(), "prepare the checks: no node") || l.removed != 1 {
			t.Errorf("report %+v, error %v, removed %d times", report, err, l.removed)
		}
		if report == nil || len(report.Results) != 1 || report.Results[0].Status != Error || !strings.Contains(report.Results[0].Error, "no node") {
			t.Errorf("report %+v, want the check as one that could not look, with the reason", report)
		}
	})
	t.Run("after cancellation, with time of its own", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := &lifecycle{}
		stop := checkOf("a/stop", func(ctx context.Context, _ *Evidence) error { cancel(); <-ctx.Done(); return ctx.Err() })
		late := checkOf("a/late", func(_ context.Context, ev *Evidence) error { ev.Saw("it"); return nil })
		cfg := Config{Parallel: 1}
		report, err := Run(ctx, cfg, Selection{}, []Check{pass, stop, late}, l)
		if report == nil || len(report.Results) != 3 || report.Results[0].Status != Pass || report.Results[1].Status != Error || report.Results[2].Status != Error {
			t.Fatalf("report %+v, want what has run with its result and the rest as errors", report)
		}
		if !errors.Is(err, context.Canceled) || l.removed != 1 || l.cleanCtx != nil {
			t.Errorf("report %+v, error %v, removed %d times with context error %v", report, err, l.removed, l.cleanCtx)
		}
	})
	t.Run("and says what it could not remove", func(t *testing.T) {
		l := &lifecycle{removeErr: errors.New("namespace is stuck")}
		report, err := Run(t.Context(), Config{}, Selection{}, []Check{pass}, l)
		if err == nil || !strings.Contains(err.Error(), "namespace is stuck") {
			t.Errorf("report %+v, error %v", report, err)
		}
	})
	t.Run("and leaves the demo's checks out where there is no demo", func(t *testing.T) {
		demo := pass
		demo.Name, demo.Settings = "demo/pass", []string{"demo.enabled=true"}
		for _, cfg := range []Config{{Kind: Kind{Settings: map[string]string{}}}, {Kind: Kind{Settings: map[string]string{"demo.enabled": "false"}}}, {Kind: Kind{Settings: map[string]string{"demo.enabled": "true"}}}} {
			report, err := Run(t.Context(), cfg, Selection{}, []Check{pass, demo}, &lifecycle{})
			if want := map[bool]int{true: 1, false: 2}[cfg.Settings["demo.enabled"] != "true"]; err != nil || len(report.Results) != want {
				t.Errorf("report %+v, error %v, want %d results", report, err, want)
			}
		}
	})
	t.Run("and leaves out what a lab with these settings does not claim", func(t *testing.T) {
		masquerade := pass
		masquerade.Name, masquerade.Settings = "a/masquerade", []string{"demo.enabled=true", "network.cidr"}
		for _, settings := range []map[string]string{{}, {"network.cidr": "10.0.0.0/8"}, {"demo.enabled": "true", "network.cidr": ""}, {"demo.enabled": "true", "network.cidr": "10.0.0.0/8"}} {
			cfg := Config{Kind: Kind{Settings: settings}}
			report, err := Run(t.Context(), cfg, Selection{}, []Check{pass, masquerade}, &lifecycle{})
			if want := map[bool]int{true: 1, false: 2}[settings["demo.enabled"] == "" || settings["network.cidr"] == ""]; err != nil || len(report.Results) != want {
				t.Errorf("report %+v, error %v, want %d results", report, err, want)
			}
		}
	})
	t.Run("and leaves out what needs more nodes than there are, which is no report when nothing else is left", func(t *testing.T) {
		across := pass
		across.Name, across.MinNodes = "a/across", 2
		report, err := Run(t.Context(), Config{}, Selection{}, []Check{pass, across}, &lifecycle{size: 1})
		if err != nil || len(report.Results) != 1 || report.Results[0].Name != pass.Name {
			t.Errorf("report %+v, error %v", report, err)
		}
		report, err = Run(t.Context(), Config{}, Selection{}, []Check{across}, &lifecycle{size: 1})
		if report != nil || err == nil || !strings.Contains(err.Error(), "more nodes") {
			t.Errorf("report %+v, error %v", report, err)
		}
	})
	t.Run("but sets nothing up for a selection that is wrong", func(t *testing.T) {
		l := &lifecycle{}
		if _, err := Run(t.Context(), Config{}, Selection{Only: []string{"b"}}, []Check{pass}, l); err == nil || l.setUp != 0 {
			t.Errorf("error %v, set up %d times", err, l.setUp)
		}
	})
}

func TestSelection(t *testing.T) {
	all := []Check{{Name: "dns/service"}, {Name: "services/hairpin"}, {Name: "services/headless"}, {Name: "rules/x", Modes: []string{"ebpf"}}}
	for _, test := range []struct {
		name       string
		sel        Selection
		mode, want string
		err        string
	}{
		{"all of a mode", Selection{}, "kubeproxy", "dns/service services/hairpin services/headless", ""},
		{"all of another", Selection{}, "ebpf", "dns/service services/hairpin services/headless rules/x", ""},
		{"of any mode", Selection{}, "", "dns/service services/hairpin services/headless rules/x", ""},
		{"a name", Selection{Only: []string{"services/headless"}}, "kubeproxy", "services/headless", ""},
		{"a group", Selection{Only: []string{"services"}}, "kubeproxy", "services/hairpin services/headless", ""},
		{"a pattern of a name", Selection{Only: []string{"*/h*"}}, "kubeproxy", "services/hairpin services/headless", ""},
		{"a pattern of a group", Selection{Only: []string{"d*"}}, "kubeproxy", "dns/service", ""},
		{"skipped", Selection{Skip: []string{"services/ha*", "dns"}}, "kubeproxy", "services/headless", ""},
		{"both", Selection{Only: []string{"services"}, Skip: []string{"*/headless"}}, "kubeproxy", "services/hairpin", ""},
		{"a misspelt name", Selection{Only: []string{"service"}}, "kubeproxy", "", "picks none"},
		{"a misspelt skip", Selection{Skip: []string{"dsn"}}, "kubeproxy", "", "picks none"},
		{"another mode's", Selection{Only: []string{"rules"}}, "kubeproxy", "", "picks none"},
		{"a bad pattern", Selection{Only: []string{"[a"}}, "kubeproxy", "", "syntax error"},
		{"nothing left", Selection{Only: []string{"dns"}, Skip: []string{"dns"}}, "kubeproxy", "", "no check is left"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, _, err := test.sel.Select(all, Kind{Mode: test.mode})
			if (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			var names []string
			for _, c := range got {
				names = append(names, c.Name)
			}
			if strings.Join(names, " ") != test.want {
				t.Errorf("got %v, want %s", names, test.want)
			}
		})
	}
}

func TestRunLaysOutWhatItsChecksNeed(t *testing.T) {
	pass := func(name string, needs ...Part) Check {
		c := checkOf(name, func(_ context.Context, ev *Evidence) error { ev.Saw("it"); return nil })
		c.Needs = needs
		return c
	}
	all := []Check{pass("a/one", Outside), pass("a/two", Pods, Nodes), pass("b/three", Nodes)}
	for only, want := range map[string]string{"a": "[nodes outside pods]", "b": "[nodes]", "a/one": "[outside]"} {
		l := &lifecycle{}
		if _, err := Run(t.Context(), Config{}, Selection{Only: []string{only}}, all, l); err != nil || fmt.Sprint(l.parts) != want {
			t.Errorf("--only %s: %v laid out, want %s; error %v", only, l.parts, want, err)
		}
	}
	if got := fmt.Sprint(Whole([]Part{Services, Native, Pods})); got != "[native nodes outside pods services]" {
		t.Errorf("Services and a native address come with %s", got)
	}
}

// TestNodesThatDoNotRunAreTold: the others are looked at, and the report has not passed.
func TestNodesThatDoNotRunAreTold(t *testing.T) {
	pass := checkOf("a/pass", func(_ context.Context, ev *Evidence) error { ev.Saw("it"); return nil })
	across := pass
	across.Name, across.MinNodes = "a/across", 3
	l := &lifecycle{size: 2}
	report, err := Run(t.Context(), Config{Down: map[string]string{"worker2": "is paused"}}, Selection{Only: []string{"a"}}, []Check{pass, across}, l)
	if err != nil || len(report.Results) != 3 || report.Passed() {
		t.Fatalf("report %+v, error %v", report, err)
	}
	down, passed, lame := report.Results[0], report.Results[1], report.Results[2]
	if down.Status != Fail || !strings.Contains(down.Wrong[0].About, "node worker2") || !strings.Contains(down.Wrong[0].Seen, "is paused") {
		t.Errorf("of the node that is down: %+v", down)
	}
	if passed.Name != "a/pass" || passed.Status != Pass {
		t.Errorf("of what the others show: %+v", passed)
	}
	if lame.Name != "a/across" || lame.Status != Error || !strings.Contains(lame.Error, "more nodes than the 2 that run") {
		t.Errorf("of what takes all nodes: %+v", lame)
	}
	var text strings.Builder
	if err := report.WriteText(&text, false); err != nil || !strings.Contains(text.String(), "node worker2") {
		t.Errorf("the report does not name the node: %s", text.String())
	}
	// Where nothing can be set up, it is told all the same.
	report, _ = Run(t.Context(), Config{Down: map[string]string{"worker2": "is paused"}}, Selection{}, []Check{pass}, &lifecycle{err: errors.New("oops")})
	if len(report.Results) != 2 || report.Results[0].Status != Fail {
		t.Errorf("report %+v", report)
	}
}
