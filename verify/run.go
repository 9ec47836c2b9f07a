package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"wirelab.dev/wirelab/internal/interrupt"
)

// Field is what checks look through.
type Field interface {
	// Open lays out parts in the lab, and those that they come with.
	Open(ctx context.Context, parts []Part) error
	// Size is how many nodes are looked at, once Open has returned without an error.
	Size() int
	// Close takes away everything that Open has made, and may be called after an error of it too.
	Close(ctx context.Context) error
}

// Run opens the field, runs those of checks that sel picks, and closes the field again, also when ctx is canceled
// half-way. A check that fails is in the report, not in the error. An error means that the setup failed, ctx
// ended, or something could not be removed. There is a report all the same, with
// the results of what has run and, for each other check, why it has not; it is
// nil only for a selection that is wrong.
func Run(ctx context.Context, cfg Config, sel Selection, all []Check, field Field) (_ *Report, err error) {
	cfg = cfg.WithDefaults()
	checks, skipped, err := sel.Select(all, cfg.Kind)
	if err != nil {
		return nil, err
	}
	report := &Report{Lab: cfg.Lab, Mode: cfg.Mode, Started: time.Now()}
	setupCtx, cancel := context.WithTimeout(ctx, cfg.SetupTimeout)
	defer cancel()
	defer func() {
		cleanCtx, cancel := interrupt.Cleanup(ctx, CleanupTimeout)
		defer cancel()
		err = errors.Join(err, field.Close(cleanCtx))
		report.Duration = time.Since(report.Started)
	}()
	if err := field.Open(setupCtx, Needs(checks)); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
		err = fmt.Errorf("prepare the checks: %w", err)
		report.Results = slices.Concat(downResults(cfg.Down), notRun(checks, err))
		report.Skipped = skipped
		return report, err
	}
	size := field.Size()
	kind := cfg.Kind
	kind.Nodes = size + len(cfg.Down)
	if checks, report.Skipped, err = sel.Select(all, kind); err != nil {
		return nil, err
	}
	// What says something about this lab, but needs more nodes than run.
	lame := slices.DeleteFunc(slices.Clone(checks), func(c Check) bool { return c.MinNodes <= size })
	checks = slices.DeleteFunc(checks, func(c Check) bool { return c.MinNodes > size })
	report.Setup = time.Since(report.Started)
	report.Results = slices.Concat(downResults(cfg.Down), runChecks(ctx, cfg, checks), notRun(lame, fmt.Errorf("it needs more nodes than the %d that run", size)))
	if err := ctx.Err(); err != nil {
		return report, fmt.Errorf("run the checks: %w", context.Cause(ctx))
	}
	return report, nil
}

// CleanupTimeout bounds the removal of what a run, or a check in it, has made.
const CleanupTimeout = 30 * time.Second

// Needs is all that checks need, each part once.
func Needs(checks []Check) []Part {
	var all []Part
	for _, c := range checks {
		all = append(all, c.Needs...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// downResults says of nodes that do not run that they do not. The other results are about the other nodes alone, so a
// report with this one has not passed.
func downResults(down map[string]string) []Result {
	if len(down) == 0 {
		return nil
	}
	r := Result{Name: "nodes/running", Claim: "Every node of the lab runs, and its kubelet answers.", Status: Fail}
	for _, node := range slices.Sorted(maps.Keys(down)) {
		r.Wrong = append(r.Wrong, Finding{"node " + node, "it to run and its kubelet to answer", "it " + down[node] + "; the checks look at the other nodes"})
	}
	return []Result{r}
}

// NotRun is the report of a run that could not begin, for the reason that err
// gives. It is nil for a selection that is wrong.
func NotRun(lab string, k Kind, sel Selection, all []Check, err error) *Report {
	checks, skipped, wrong := sel.Select(all, k)
	if wrong != nil {
		return nil
	}
	return &Report{Lab: lab, Mode: k.Mode, Started: time.Now(), Results: notRun(checks, err), Skipped: skipped}
}

// notRunFor begins the error of a check that did not run; the reason follows.
const notRunFor = "not run: "

func notRun(checks []Check, err error) []Result {
	results := make([]Result, len(checks))
	for i, c := range checks {
		results[i] = Result{Name: c.Name, Claim: c.Claim, Status: Error, Error: notRunFor + err.Error()}
	}
	return results
}

// placeFor is how long a check keeps others from running. One that takes longer waits, as a rule, for what does not come, which
// costs nothing: as many as run at once may wait besides.
const placeFor = 2 * time.Second

// runChecks runs checks at once, at most cfg.Parallel that have run for less than placeFor and twice as many in all, and returns
// their results in the same order.
func runChecks(ctx context.Context, cfg Config, checks []Check) []Result {
	results := make([]Result, len(checks))
	ended := make(chan int)
	places, all := make(chan struct{}, cfg.Parallel), make(chan struct{}, 2*cfg.Parallel)
	go func() {
		for i, check := range checks {
			places <- struct{}{}
			all <- struct{}{}
			leave := sync.OnceFunc(func() { <-places })
			waits := time.AfterFunc(placeFor, leave)
			go func() {
				results[i] = check.Look(ctx, cfg.CheckTimeout)
				waits.Stop()
				leave()
				<-all
				ended <- i
			}()
		}
	}()
	for done := range len(checks) {
		cfg.Progress(Progress{Step: "check", Done: done + 1, Total: len(checks), Result: &results[<-ended]})
	}
	return results
}

// Look runs the check, for as long as timeout at most. A check that runs into its deadline could
// not look, which is an error, unless it has already seen the claim broken.
func (c Check) Look(ctx context.Context, timeout time.Duration) Result {
	if ctx.Err() != nil {
		return notRun([]Check{c}, context.Cause(ctx))[0]
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no result within %s", timeout))
	defer cancel()
	start := time.Now()
	evidence := &Evidence{}
	err := guard(func() error { return c.Run(ctx, evidence) })
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", err, context.Cause(ctx))
	}
	result := evidence.result(c, err)
	result.Duration = time.Since(start)
	return result
}

// guard turns a panic into an error, so that the other checks still run and
// the cleanup too.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the check panicked: %v", r)
		}
	}()
	return f()
}
