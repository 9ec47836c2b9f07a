package labs

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wirelab.dev/wirelab/internal/interrupt"
)

// diary records what steps did, in order.
type diary struct {
	mu      sync.Mutex
	entries []string
}

func (d *diary) note(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, s)
}

// made is a step that takes as long as it is told, fails with err if there is one, and can be undone.
func (d *diary) made(name string, takes time.Duration, err error, after ...string) step {
	return step{
		name: name, after: after,
		do: func(ctx context.Context, _ func(string)) (string, error) {
			d.note("do " + name)
			select {
			case <-time.After(takes):
				return "", err
			case <-ctx.Done():
				return "", ctx.Err()
			}
		},
		undo: func(ctx context.Context) error {
			if ctx.Err() != nil {
				return errors.New("undone with a context that has ended")
			}
			d.note("undo " + name)
			return nil
		},
	}
}

func quiet(Event) {}

func states(rs []StepResult) string {
	var out []string
	for _, r := range rs {
		out = append(out, r.Name+" "+string(r.State))
	}
	return strings.Join(out, ", ")
}

func TestStepsOverlapWhereTheyMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		start := time.Now()
		rs, err := run(t.Context(), []step{
			d.made("a", time.Second, nil),
			d.made("b", 3*time.Second, nil, "a"),
			d.made("c", 2*time.Second, nil, "a"),
			d.made("d", time.Second, nil, "b", "c"),
		}, false, quiet, nil)
		if err != nil || states(rs) != "a done, b done, c done, d done" {
			t.Errorf("%s, %v", states(rs), err)
		}
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("took %s, want 5s: b and c at once", took)
		}
		if rs[2].Duration != 2*time.Second {
			t.Errorf("c took %s, want 2s", rs[2].Duration)
		}
	})
}

func TestFailureCancelsAndUndoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		broken := errors.New("broken")
		rs, err := run(t.Context(), []step{
			d.made("a", time.Second, nil),
			d.made("b", time.Hour, nil, "a"),
			d.made("c", time.Second, broken, "a"),
			d.made("d", time.Second, nil, "b"),
		}, false, quiet, nil)
		if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "c: ") {
			t.Errorf("error = %v, want that of c", err)
		}
		if got := states(rs); got != "a done, b cancelled, c failed" {
			t.Errorf("states: %s", got)
		}
		undone := slices.DeleteFunc(slices.Clone(d.entries), func(s string) bool { return strings.HasPrefix(s, "do ") })
		if len(undone) != 3 || undone[2] != "undo a" {
			t.Errorf("undone %q, want all that began, a last", undone)
		}
	})
}

func TestInterruptUndoesUnlessKept(t *testing.T) {
	for keep, want := range map[bool]int{false: 2, true: 0} {
		synctest.Test(t, func(t *testing.T) {
			var d diary
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			defer cancel()
			_, err := run(ctx, []step{d.made("a", time.Second, nil), d.made("b", time.Hour, nil, "a")}, keep, quiet, nil)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error = %v", err)
			}
			n := 0
			for _, e := range d.entries {
				if strings.HasPrefix(e, "undo ") {
					n++
				}
			}
			if n != want {
				t.Errorf("keep %v: %d steps undone, want %d: %q", keep, n, want, d.entries)
			}
		})
	}
}

func TestNothingIsUndoneOnceTheLabIsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		ready := d.made("ready", time.Second, nil, "cluster")
		ready.final = true
		_, err := run(t.Context(), []step{
			d.made("cluster", time.Second, nil), ready, d.made("verify", time.Second, ErrNotVerified, "ready"),
		}, false, quiet, nil)
		if !errors.Is(err, ErrNotVerified) {
			t.Errorf("error = %v", err)
		}
		if want := []string{"do cluster", "do ready", "do verify"}; !slices.Equal(d.entries, want) {
			t.Errorf("did %q, want %q", d.entries, want)
		}
	})
}

func TestUndoErrorsAreReported(t *testing.T) {
	stuck := errors.New("stuck")
	s := step{
		name: "a",
		do:   func(context.Context, func(string)) (string, error) { return "", errors.New("broken") },
		undo: func(context.Context) error { return stuck },
	}
	if _, err := run(t.Context(), []step{s}, false, quiet, nil); !errors.Is(err, stuck) || !strings.Contains(err.Error(), "broken") {
		t.Errorf("error = %v, want both", err)
	}
}

func TestUpStepsFormAnOrder(t *testing.T) {
	seen := map[string]bool{}
	var names []string
	for _, s := range (&up{}).steps() {
		names = append(names, s.name)
		for _, before := range s.after {
			if !seen[before] {
				t.Errorf("step %q comes after %q, which is not listed before it", s.name, before)
			}
		}
		seen[s.name] = true
	}
	if !seen[stepVerify] {
		t.Error("lab up does not verify")
	}
	if told := StepNames(); !slices.Equal(slices.Sorted(slices.Values(told)), slices.Sorted(slices.Values(names))) {
		t.Errorf("the steps are %q, and it is told of %q", names, told)
	}
	for _, s := range (&up{UpOptions: UpOptions{SkipVerify: true}}).steps() {
		if s.name == stepVerify {
			t.Error("lab up --no-verify verifies")
		}
	}
}

// TestSecondInterruptStopsTheUndoing: what is not undone then is named, and none of it is begun.
func TestSecondInterruptStopsTheUndoing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop, second := context.WithCancel(t.Context())
		ctx, first := context.WithCancel(interrupt.WithStop(t.Context(), stop))
		var d diary
		slow := d.made("b", time.Hour, nil, "a")
		slow.undo = func(ctx context.Context) error {
			d.note("undo b")
			<-ctx.Done()
			return ctx.Err()
		}
		go func() { time.Sleep(2 * time.Second); first(); time.Sleep(time.Second); second() }()
		start := time.Now()
		_, err := run(ctx, []step{d.made("a", time.Second, nil), slow}, false, quiet, nil)
		if !errors.Is(err, interrupt.ErrStopped) || !strings.Contains(err.Error(), "undo b: ") || !strings.Contains(err.Error(), "undo a: ") {
			t.Errorf("error = %v, want both steps named", err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %s, want the second interrupt to end it after 3s", took)
		}
		if slices.Contains(d.entries, "undo a") {
			t.Errorf("did %q", d.entries)
		}
	})
}

// TestToldBeforeUndoing: who is told of a failure finds everything still there, and how each step ended.
func TestToldBeforeUndoing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &diary{}
		broken := errors.New("broken")
		told := 0
		_, err := run(t.Context(), []step{d.made("a", time.Second, nil), d.made("b", time.Second, broken, "a")}, false, quiet, func(rs []StepResult, err error) {
			told++
			if !errors.Is(err, broken) || len(rs) != 2 || rs[1].State != StepFailed || slices.ContainsFunc(d.entries, func(s string) bool { return strings.Contains(s, "undo") }) {
				t.Errorf("told of %v, %+v, after %q", err, rs, d.entries)
			}
		})
		if told != 1 || !errors.Is(err, broken) || !slices.ContainsFunc(d.entries, func(s string) bool { return strings.Contains(s, "undo") }) {
			t.Errorf("told %d times: %v, %q", told, err, d.entries)
		}
		if _, err := run(t.Context(), []step{d.made("c", time.Second, nil)}, false, quiet, func([]StepResult, error) { t.Error("told of a failure that there was not") }); err != nil {
			t.Error(err)
		}
	})
}
