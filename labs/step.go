package labs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"wirelab.dev/wirelab/internal/interrupt"
)

// step is one part of a lab's life. Its Do starts when all steps it comes after have ended well; steps that do not
// wait for each other run at the same time.
type step struct {
	name  string
	after []string
	// do does it. What it returns besides an error is a few words on what came out, for the person watching.
	do func(ctx context.Context, say func(string)) (string, error)
	// undo takes back what do did in this run; nil when there is nothing to take back. It runs also when do failed
	// half-way, and with a context of its own.
	undo func(ctx context.Context) error
	// final marks the step after which the lab is whole: when it has ended well, nothing is undone any more.
	final bool
}

// undoDeadline bounds the undoing of one step.
const undoDeadline = 2 * time.Minute

// run runs steps and returns how each that was started ended, in the order of steps. On the first error, or when ctx
// ends, the others are cancelled and, unless keep is set, what was done is undone from last to first. A second interrupt
// ends that; the error then wraps [interrupt.ErrStopped] for each step that has not been undone. failed, which may be nil, is
// called on an error before anything is undone.
func run(ctx context.Context, steps []step, keep bool, tell Progress, failed func([]StepResult, error)) ([]StepResult, error) {
	r := &runner{steps: steps, tell: tell, ended: map[string]chan struct{}{}, results: map[string]*StepResult{}}
	for _, s := range steps {
		r.ended[s.name] = make(chan struct{})
	}
	err := r.all(ctx)
	out := r.inOrder()
	if err != nil && failed != nil {
		failed(out, err)
	}
	if err != nil && !keep && !r.whole() {
		err = errors.Join(err, r.undo(ctx))
	}
	return out, err
}

// inOrder are the results of the steps that were started.
func (r *runner) inOrder() (out []StepResult) {
	for _, s := range r.steps {
		if res := r.results[s.name]; res != nil {
			out = append(out, *res)
		}
	}
	return out
}

type runner struct {
	steps []step
	tell  Progress
	ended map[string]chan struct{} // closed when the step ended well

	mu      sync.Mutex
	results map[string]*StepResult
	begun   []string // in the order they began
}

func (r *runner) all(ctx context.Context) error {
	rctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, s := range r.steps {
		wg.Go(func() {
			if err := r.one(rctx, s); err != nil {
				cancel(err) // the first cause stays
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return context.Cause(rctx)
}

func (r *runner) one(ctx context.Context, s step) error {
	for _, before := range s.after {
		select {
		case <-r.ended[before]:
		case <-ctx.Done():
			return nil // never begun; the cause is another's
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	start := time.Now()
	r.begin(s.name)
	note, err := s.do(ctx, func(note string) {
		r.tell(Event{Step: s.name, State: StepRunning, Note: note, Duration: time.Since(start)})
	})
	// An error after the end of ctx comes from being cut short and is no failure of this step's own.
	if err != nil && ctx.Err() != nil {
		r.end(s.name, StepCancelled, "", start)
		return nil
	}
	if err != nil {
		r.end(s.name, StepFailed, err.Error(), start)
		return fmt.Errorf("%s: %w", s.name, err)
	}
	r.end(s.name, StepDone, note, start)
	close(r.ended[s.name])
	return nil
}

func (r *runner) begin(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun = append(r.begun, name)
	r.results[name] = &StepResult{Name: name, State: StepRunning}
	r.tell(Event{Step: name, State: StepRunning})
}

func (r *runner) end(name string, st StepState, note string, start time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := time.Since(start)
	*r.results[name] = StepResult{Name: name, State: st, Note: note, Duration: d}
	r.tell(Event{Step: name, State: st, Note: note, Duration: d})
}

func (r *runner) whole() bool {
	return slices.ContainsFunc(r.steps, func(s step) bool {
		res := r.results[s.name]
		return s.final && res != nil && res.State == StepDone
	})
}

func (r *runner) undo(ctx context.Context) error {
	var errs []error
	for _, name := range slices.Backward(r.begun) {
		s := r.steps[slices.IndexFunc(r.steps, func(s step) bool { return s.name == name })]
		if s.undo == nil {
			continue
		}
		if interrupt.Stopped(ctx) {
			errs = append(errs, fmt.Errorf("undo %s: %w", name, interrupt.ErrStopped))
			continue
		}
		r.tell(Event{Step: name, State: StepUndoing})
		uctx, cancel := interrupt.Cleanup(ctx, undoDeadline)
		err := s.undo(uctx)
		if err != nil && interrupt.Stopped(ctx) {
			err = interrupt.ErrStopped // what it was at when it was cut off is no matter
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("undo %s: %w", name, err))
		}
		cancel()
	}
	return errors.Join(errs...)
}
