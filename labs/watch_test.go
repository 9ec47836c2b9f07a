package labs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wirelab.dev/wirelab/internal/cluster"
)

// watching is a watch of two nodes whose streams the test writes.
type watching struct {
	*watch[string]
	from chan sent[string]
	said []string
	got  []string
}

func watchTwo(t *testing.T) *watching {
	w := &watching{from: make(chan sent[string])}
	say := func(s string) { w.said = append(w.said, s) }
	w.watch = &watch[string]{
		lab: &Lab{Name: "l"}, nodes: []cluster.Node{{Name: "l-worker"}, {Name: "l-worker2"}}, who: "its agent", begin: sayWatched(say), say: say,
		emit: func(s string) error {
			w.got = append(w.got, s)
			return nil
		},
	}
	w.reset()
	return w
}

func (w *watching) mark(node string) {
	w.from <- sent[string]{node: node, line: line[string]{upTo: time.Now()}}
}

func (w *watching) event(node, reason string, at time.Time) {
	w.from <- sent[string]{node: node, line: line[string]{seen: &reason, at: at}}
}

func (w *watching) over(node, why string) { w.from <- sent[string]{node: node, over: errors.New(why)} }

// TestWatchOfACommand: what happened while it ran is emitted in the order of time, whichever node tells first, and then it
// is over.
func TestWatchOfACommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchTwo(t)
		ran := make(chan struct{})
		w.while = func(context.Context) {
			time.Sleep(time.Second)
			close(ran)
		}
		go func() {
			w.mark("l-worker")
			time.Sleep(time.Second)
			w.mark("l-worker2")
			w.event("l-worker", "before", time.Now().Add(-time.Millisecond))
			time.Sleep(500 * time.Millisecond)
			w.event("l-worker", "second", time.Now())
			w.event("l-worker2", "first", time.Now().Add(-time.Millisecond))
			<-ran
			time.Sleep(100 * time.Millisecond)
			w.event("l-worker", "after", time.Now())
			w.mark("l-worker")
			time.Sleep(200 * time.Millisecond)
			w.mark("l-worker2")
		}()
		if err := w.join(t.Context(), w.from); err != nil {
			t.Fatal(err)
		}
		if err := w.run(t.Context(), w.from); err != nil || w.failed() != nil {
			t.Errorf("%v, %v", err, w.failed())
		}
		if got := strings.Join(w.got, " "); got != "first second" {
			t.Errorf("emitted: %s", got)
		}
		if got := strings.Join(w.said, "; "); got != "watching worker, worker2" {
			t.Errorf("said: %s", got)
		}
	})
}

// TestWatchWithoutANode: a node that cannot be watched, or no more, is named and does not keep the others back; no node at
// all is an error.
func TestWatchWithoutANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchTwo(t)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			w.over("l-worker2", "is paused")
			w.mark("l-worker")
			w.event("l-worker", "first", time.Now())
			w.mark("l-worker")
			time.Sleep(time.Second)
			cancel()
		}()
		if err := errors.Join(w.join(ctx, w.from), w.run(ctx, w.from)); err != nil {
			t.Error(err)
		}
		if got := strings.Join(w.got, " "); got != "first" {
			t.Errorf("emitted: %s", got)
		}
		if got := strings.Join(w.said, "; "); got != "node l-worker2 is not watched: is paused; watching worker" {
			t.Errorf("said: %s", got)
		}
		if err := w.failed(); err == nil || err.Error() != "node l-worker2: is paused" {
			t.Errorf("failed: %v", err)
		}

		w = watchTwo(t)
		go func() {
			w.mark("l-worker")
			w.mark("l-worker2")
			w.over("l-worker", "the agent ended the stream")
			w.event("l-worker2", "then", time.Now())
			w.mark("l-worker2")
			w.over("l-worker2", "the agent ended the stream")
		}()
		if err := errors.Join(w.join(t.Context(), w.from), w.run(t.Context(), w.from)); err != nil {
			t.Error(err)
		}
		if got := strings.Join(w.got, " "); got != "then" {
			t.Errorf("emitted: %s", got)
		}
		if want := "node l-worker is watched no more: the agent ended the stream"; !slices.Contains(w.said, want) {
			t.Errorf("said: %q", w.said)
		}

		w = watchTwo(t)
		go func() {
			w.over("l-worker", "is stopped")
			w.over("l-worker2", "is paused")
		}()
		if err := w.join(t.Context(), w.from); err == nil || err.Error() != "node l-worker: is stopped\nnode l-worker2: is paused" || len(w.said) > 0 {
			t.Errorf("no node at all: %v, said %q", err, w.said)
		}

		w = watchTwo(t)
		go func() {
			w.over("l-worker", "is paused")
			w.over("l-worker2", "is paused")
		}()
		if err := w.join(t.Context(), w.from); err == nil || err.Error() != "node l-worker: is paused\nnode l-worker2: is paused" {
			t.Errorf("no node at all, for the same reason: %v", err)
		}
	})
}

// TestWatchOfASilentNode: one that does not answer is given up, one that falls silent holds the others back for a while.
func TestWatchOfASilentNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchTwo(t)
		began := time.Now()
		go func() { w.mark("l-worker") }()
		if err := w.join(t.Context(), w.from); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != agentPatience+askTimeout || len(w.said) != 2 || !strings.Contains(w.said[0], "l-worker2 is not watched: its agent does not answer") {
			t.Errorf("after %s: %q", took, w.said)
		}
		if w.failures[0] != nil || w.failures[1] == nil {
			t.Errorf("why nodes are not watched: %v", w.failures)
		}

		w = watchTwo(t)
		w.patience = 3 * time.Second
		began = time.Now()
		go func() { w.mark("l-worker") }()
		if err := w.join(t.Context(), w.from); err != nil || time.Since(began) != w.patience || !strings.Contains(w.said[0], "within 3s") {
			t.Errorf("after %s: %q, %v", time.Since(began), w.said, err)
		}

		w = watchTwo(t)
		w.while = func(context.Context) { time.Sleep(time.Second) }
		stop := make(chan struct{})
		go func() {
			w.mark("l-worker")
			w.mark("l-worker2")
			w.event("l-worker", "alone", time.Now())
			for {
				select {
				case w.from <- sent[string]{node: "l-worker", line: line[string]{upTo: time.Now()}}:
					time.Sleep(200 * time.Millisecond)
				case <-stop:
					return
				}
			}
		}()
		if err := errors.Join(w.join(t.Context(), w.from), w.run(t.Context(), w.from)); err != nil {
			t.Error(err)
		}
		close(stop)
		time.Sleep(time.Second) // until it has looked
		if got := strings.Join(w.got, " "); got != "alone" {
			t.Errorf("emitted: %s", got)
		}
	})
}

// TestWatchEndsWithItsOutput: when nobody reads, the command is waited for, and then it is over.
func TestWatchEndsWithItsOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, command := range []bool{false, true} {
			w := watchTwo(t)
			ctx, cancel := context.WithCancel(t.Context())
			gone := errors.New("nobody reads")
			w.emit = func(string) error {
				w.got = append(w.got, "one")
				cancel() // as lab's output does
				return gone
			}
			ended := false
			if command {
				w.while = func(ctx context.Context) { <-ctx.Done(); time.Sleep(time.Second); ended = true }
			}
			stop := make(chan struct{})
			go func() {
				for i := range 1000 {
					reason := fmt.Sprint(i)
					for _, s := range []sent[string]{
						{node: "l-worker", line: line[string]{upTo: time.Now()}}, {node: "l-worker2", line: line[string]{upTo: time.Now()}},
						{node: "l-worker", line: line[string]{seen: &reason, at: time.Now()}},
					} {
						select {
						case w.from <- s:
						case <-stop:
							return
						}
					}
					time.Sleep(100 * time.Millisecond)
				}
			}()
			err := errors.Join(w.join(ctx, w.from), w.run(ctx, w.from))
			close(stop)
			synctest.Wait()
			time.Sleep(time.Second) // until it has looked
			if !command && err != nil && !errors.Is(err, gone) || command && (!errors.Is(err, gone) || !ended) || len(w.got) != 1 {
				t.Errorf("with a command %t: %v, ended %t, %d events", command, err, ended, len(w.got))
			}
		}
	})
}

// TestWatchToTheEnd: what was seen before an interrupt is emitted where that is wanted, and nothing that was seen after it.
func TestWatchToTheEnd(t *testing.T) {
	for _, toTheEnd := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := watchTwo(t)
			w.toTheEnd = toTheEnd
			ctx, interrupt := context.WithCancel(t.Context())
			stop := make(chan struct{})
			go func() {
				w.mark("l-worker")
				w.mark("l-worker2")
				time.Sleep(time.Millisecond)
				w.event("l-worker", "before", time.Now())
				time.Sleep(time.Millisecond)
				interrupt()
				time.Sleep(time.Millisecond)
				for _, s := range []sent[string]{
					{node: "l-worker", line: line[string]{seen: new("after"), at: time.Now()}},
					{node: "l-worker", line: line[string]{upTo: time.Now()}}, {node: "l-worker2", line: line[string]{upTo: time.Now()}},
				} {
					select {
					case w.from <- s:
					case <-stop:
					}
				}
			}()
			if err := errors.Join(w.join(ctx, w.from), w.run(ctx, w.from)); err != nil {
				t.Error(err)
			}
			close(stop)
			time.Sleep(time.Second) // until it has looked
			want := ""
			if toTheEnd {
				want = "before"
			}
			if got := strings.Join(w.got, " "); got != want {
				t.Errorf("to the end %t: emitted %q", toTheEnd, got)
			}
		})
	}
}

// TestWatchThatIsRefused: a node that refuses what it is asked for ends all.
func TestWatchThatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchTwo(t)
		go func() {
			w.mark("l-worker")
			w.from <- sent[string]{node: "l-worker2", over: refusal{errors.New("no such device")}}
		}()
		if err := w.join(t.Context(), w.from); err == nil || err.Error() != "node l-worker2: no such device" || len(w.said) > 0 {
			t.Errorf("%v, said %q", err, w.said)
		}
	})
}

// TestWatchThatWasInterrupted: a command that has not begun is not run, and that is no success.
func TestWatchThatWasInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchTwo(t)
		ran := false
		w.while = func(context.Context) { ran = true }
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := errors.Join(w.join(ctx, w.from), w.run(ctx, w.from)); !errors.Is(err, context.Canceled) || ran {
			t.Errorf("%v, ran %t", err, ran)
		}
	})
}
