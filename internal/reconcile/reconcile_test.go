package reconcile

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// start runs g in a synctest bubble until the test ends.
func start(t *testing.T, g Group) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestRunsAtOnceAndOnTriggers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		r := New("x", func(context.Context) error { runs.Add(1); return nil }, Options{}, quiet())
		start(t, Group{r})
		synctest.Wait()
		if runs.Load() != 1 {
			t.Fatalf("%d runs after the start, want 1", runs.Load())
		}
		time.Sleep(time.Hour)
		if runs.Load() != 1 {
			t.Fatalf("%d runs without a trigger or resync, want 1", runs.Load())
		}
		r.Trigger()
		synctest.Wait()
		if runs.Load() != 2 {
			t.Errorf("%d runs after a trigger, want 2", runs.Load())
		}
	})
}

func TestTriggersDuringARunMakeOneMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		r := New("x", func(context.Context) error {
			runs.Add(1)
			time.Sleep(time.Second)
			return nil
		}, Options{}, quiet())
		start(t, Group{r})
		synctest.Wait()
		for range 100 {
			r.Trigger()
		}
		time.Sleep(time.Minute)
		if runs.Load() != 2 {
			t.Errorf("%d runs, want the first and one for all triggers", runs.Load())
		}
	})
}

func TestResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		r := New("x", func(context.Context) error { runs.Add(1); return nil }, Options{Resync: time.Minute}, quiet())
		start(t, Group{r})
		time.Sleep(time.Hour)
		if n := runs.Load(); n < 50 || n > 75 {
			t.Errorf("%d runs in an hour at one a minute ± 20 %%", n)
		}
	})
}

func TestBackoffGrowsAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var at []time.Time
		var broken atomic.Bool
		broken.Store(true)
		r := New("x", func(context.Context) error {
			mu.Lock()
			at = append(at, time.Now())
			mu.Unlock()
			if broken.Load() {
				return errors.New("no such device")
			}
			return nil
		}, Options{MinBackoff: time.Second, MaxBackoff: 8 * time.Second}, quiet())
		g := Group{r}
		start(t, g)
		time.Sleep(40 * time.Second)
		synctest.Wait()
		mu.Lock()
		failed := len(at)
		for i, nominal := range []time.Duration{1, 2, 4, 8, 8} {
			wait, nominal := at[i+1].Sub(at[i]), nominal*time.Second
			if wait < nominal*4/5-time.Millisecond || wait > nominal*6/5+time.Millisecond {
				t.Errorf("wait %d was %v, want %v ± 20 %%", i+1, wait, nominal)
			}
		}
		mu.Unlock()
		h := r.Health()
		if h.Healthy || h.ConsecutiveFailures != failed || h.LastError != "no such device" || !h.LastSuccess.IsZero() {
			t.Errorf("health while failing: %+v", h)
		}
		if p := g.Problems(); len(p) != 1 || p[0] != "x fails: no such device" {
			t.Errorf("problems: %q", p)
		}
		broken.Store(false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		h = r.Health()
		if !h.Healthy || h.ConsecutiveFailures != 0 || h.LastSuccess.IsZero() || h.LastError == "" {
			t.Errorf("health after mending: %+v", h)
		}
		if p := g.Problems(); p != nil {
			t.Errorf("problems after mending: %q", p)
		}
	})
}

func TestTriggerCutsTheBackoffToItsFirstStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		r := New("x", func(context.Context) error { runs.Add(1); return errors.New("no") },
			Options{MinBackoff: time.Second, MaxBackoff: time.Hour}, quiet())
		start(t, Group{r})
		time.Sleep(10 * time.Minute) // the backoff is minutes long now
		before := runs.Load()
		r.Trigger()
		time.Sleep(time.Millisecond)
		if runs.Load() != before+1 {
			t.Fatalf("%d runs after a trigger, want %d", runs.Load(), before+1)
		}
		for range 1000 { // a storm of triggers must not become a storm of runs
			r.Trigger()
			time.Sleep(10 * time.Millisecond)
		}
		if n := runs.Load() - before; n > 13 {
			t.Errorf("%d runs in 10 s of triggers, want about one a second", n)
		}
	})
}

func TestAfterWaitsForTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mended, ran atomic.Bool
		first := New("first", func(context.Context) error {
			if !mended.Load() {
				return errors.New("not yet")
			}
			return nil
		}, Options{}, quiet())
		last := New("last", func(context.Context) error { ran.Store(true); return nil },
			Options{After: []*Reconciler{first}}, quiet())
		g := Group{last, first}
		start(t, g)
		time.Sleep(time.Minute)
		if ran.Load() {
			t.Fatal("ran before the other had succeeded")
		}
		if p := strings.Join(g.Problems(), "; "); p != "first fails: not yet; last has not run yet" {
			t.Errorf("problems: %q", p)
		}
		mended.Store(true)
		time.Sleep(time.Minute)
		if !ran.Load() {
			t.Error("did not run after the other had succeeded")
		}
	})
}

func TestApplyHasADeadlineAndStopIsNotAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New("x", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			Options{Timeout: time.Second, MinBackoff: time.Hour}, quiet())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(2 * time.Second)
		if h := r.Health(); h.ConsecutiveFailures != 1 {
			t.Errorf("an Apply past its deadline is no failure: %+v", h)
		}
		r.Trigger()
		time.Sleep(time.Hour + time.Minute)
		before := r.Health().Runs
		r.Trigger()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if r.Health().Runs != before {
			t.Error("a run that the stop cut off was counted")
		}
	})
}

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		r := New("x", func(context.Context) error { runs.Add(1); return nil }, Options{Resync: time.Minute}, quiet())
		g := Group{r}
		start(t, g)
		synctest.Wait()
		expect := func(when string, want int32) {
			t.Helper()
			synctest.Wait()
			if got := runs.Load(); got != want {
				t.Errorf("%s: %d runs, want %d", when, got, want)
			}
		}
		if err := g.Pause(time.Now().Add(time.Hour), "x", "y"); err == nil || !strings.Contains(err.Error(), `"y"`) {
			t.Errorf("an unknown one: %v", err)
		}
		if h := r.Health(); !h.PausedUntil.IsZero() {
			t.Errorf("it is paused all the same: %+v", h)
		}
		if err := g.Pause(time.Now().Add(10*time.Minute), "x"); err != nil {
			t.Fatal(err)
		}
		if until := r.Health().PausedUntil; time.Until(until) != 10*time.Minute {
			t.Errorf("paused until %v", until)
		}
		r.Trigger()
		time.Sleep(9 * time.Minute)
		expect("paused", 1)
		time.Sleep(time.Minute)
		expect("after the pause", 2)
		if !r.Health().PausedUntil.IsZero() {
			t.Error("it still says that it is paused")
		}

		if err := g.Pause(time.Now().Add(time.Hour), "x"); err != nil {
			t.Fatal(err)
		}
		if err := g.Pause(time.Now().Add(10*time.Minute), "x"); err != nil { // a second thought
			t.Fatal(err)
		}
		before := runs.Load()
		r.Trigger()
		time.Sleep(5 * time.Minute)
		expect("paused", before)
		if err := g.Resume("x"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if runs.Load() == before {
			t.Error("Resume does not run it")
		}
		if err := g.Resume("x"); err != nil {
			t.Fatal(err)
		}
	})
}
