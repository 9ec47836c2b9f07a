// Package reconcile runs reconcilers, which make an actual state match a
// desired one: triggered by whatever may have changed either, retried with
// backoff, repeated now and then to mend what others broke, and reporting
// their health.
package reconcile

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

// Options of a Reconciler. The zero value is usable.
type Options struct {
	// Resync is how often Apply runs without a trigger; 0 means never.
	Resync time.Duration
	// Timeout of one Apply; 0 means 30 s.
	Timeout time.Duration
	// MinBackoff is waited after a first failure, and doubled with each
	// further one up to MaxBackoff; 0 means 200 ms and 30 s.
	MinBackoff, MaxBackoff time.Duration
	// After are reconcilers that must have succeeded once before this one
	// runs first.
	After []*Reconciler
}

func (o Options) withDefaults() Options {
	o.Timeout = cmp.Or(o.Timeout, 30*time.Second)
	o.MinBackoff = cmp.Or(o.MinBackoff, 200*time.Millisecond)
	o.MaxBackoff = cmp.Or(o.MaxBackoff, 30*time.Second)
	return o
}

// Reconciler is one control loop. It is level-triggered: Apply looks up the
// whole desired state itself, so any number of triggers while it runs make
// one further run.
type Reconciler struct {
	name    string
	apply   func(context.Context) error
	opts    Options
	log     *slog.Logger
	trigger chan struct{} // holds at most one
	first   chan struct{} // closed at the first success

	mu     sync.Mutex
	health api.Reconciler
	again  chan struct{} // closed by Resume; nil when it is not paused
}

// New returns a Reconciler that does nothing until Run, and then runs apply
// at once. The logger's records carry the name.
func New(name string, apply func(context.Context) error, opts Options, log *slog.Logger) *Reconciler {
	return &Reconciler{
		name:    name,
		apply:   apply,
		opts:    opts.withDefaults(),
		log:     log.With("reconciler", name),
		trigger: make(chan struct{}, 1),
		first:   make(chan struct{}),
		health:  api.Reconciler{Name: name},
	}
}

// Trigger asks for a run soon. It never blocks. A nil Reconciler has nothing
// to run.
func (r *Reconciler) Trigger() {
	if r == nil {
		return
	}
	select {
	case r.trigger <- struct{}{}:
	default: // one is waiting already and will see the newest state
	}
}

// Health returns a snapshot.
func (r *Reconciler) Health() api.Reconciler {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.health
}

// Run runs the loop until ctx is done, which is not an error.
func (r *Reconciler) Run(ctx context.Context) error {
	for _, other := range r.opts.After {
		select {
		case <-other.first:
		case <-ctx.Done():
			return nil
		}
	}
	for ctx.Err() == nil {
		r.awaitResume(ctx)
		if ctx.Err() == nil {
			r.sleep(ctx, r.runOnce(ctx))
		}
	}
	return nil
}

// Pause keeps Apply from running until then, or until Resume, for somebody who
// wants to see what happens without it. A run that has begun goes on.
func (r *Reconciler) Pause(until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.again != nil {
		close(r.again) // who waits looks at the new end
	}
	r.again, r.health.PausedUntil = make(chan struct{}), until
	r.log.Info("reconciliation is paused", "until", until)
	r.Trigger() // it waits for the end of the pause, instead of for its next turn
}

// Resume ends a pause and runs Apply at once. Without a pause it does nothing.
func (r *Reconciler) Resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.again != nil {
		r.resume()
	}
}

func (r *Reconciler) resume() {
	close(r.again)
	r.again, r.health.PausedUntil = nil, time.Time{}
	r.log.Info("reconciliation goes on")
}

// awaitResume waits for the end of a pause, if there is one.
func (r *Reconciler) awaitResume(ctx context.Context) {
	for ctx.Err() == nil {
		r.mu.Lock()
		again, left := r.again, time.Until(r.health.PausedUntil)
		if again != nil && left <= 0 {
			r.resume()
			again = nil
		}
		r.mu.Unlock()
		if again == nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-again:
		case <-time.After(left):
		}
		select {
		case <-r.trigger: // the run that follows sees the newest state
		default:
		}
	}
}

// pause is how long to wait for the next run: deaf to triggers for a while,
// then for a trigger or the end of rest, whatever comes first. A rest of 0
// has no end.
type pause struct{ deaf, rest time.Duration }

// runOnce applies once. After a failure a trigger cuts the backoff short, as
// what changed may be what the failure was about, but not below the first
// step of the backoff.
func (r *Reconciler) runOnce(ctx context.Context) pause {
	applyCtx, cancel := context.WithTimeout(ctx, r.opts.Timeout)
	err := r.apply(applyCtx)
	cancel()
	if ctx.Err() != nil {
		return pause{} // stopped half-way: that says nothing about its health
	}
	failures := r.record(err, time.Now())
	if err == nil {
		return pause{rest: jitter(r.opts.Resync)}
	}
	wait := jitter(r.backoff(failures))
	r.log.Warn("reconciliation failed", "err", err, "failures", failures, "retry_in", wait.Round(time.Millisecond))
	deaf := min(r.opts.MinBackoff, wait)
	return pause{deaf: deaf, rest: wait - deaf + 1}
}

// record notes the outcome of a run and returns how many failed in a row.
func (r *Reconciler) record(err error, now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := &r.health
	h.Runs++
	if err != nil {
		h.Healthy = false
		h.LastError, h.LastErrorAt = err.Error(), now
		h.ConsecutiveFailures++
		return h.ConsecutiveFailures
	}
	if h.ConsecutiveFailures > 0 {
		r.log.Info("reconciliation works again", "failures", h.ConsecutiveFailures)
	}
	if h.LastSuccess.IsZero() {
		close(r.first)
	}
	h.Healthy, h.LastSuccess, h.ConsecutiveFailures = true, now, 0
	return 0
}

func (r *Reconciler) backoff(failures int) time.Duration {
	d := r.opts.MinBackoff
	for range failures - 1 {
		if d *= 2; d >= r.opts.MaxBackoff {
			return r.opts.MaxBackoff
		}
	}
	return d
}

func (r *Reconciler) sleep(ctx context.Context, p pause) {
	if p.deaf > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(p.deaf):
		}
	}
	var timeout <-chan time.Time
	if p.rest > 0 {
		timeout = time.After(p.rest)
	}
	select {
	case <-ctx.Done():
	case <-r.trigger:
	case <-timeout:
	}
}

// jitter spreads d by 20 % to either side, so that the nodes of a cluster do
// not ask all at once.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d*4/5 + rand.N(d*2/5+1)
}
