package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"wirelab.dev/wirelab/internal/interrupt"
)

// Run sets up what the checks need in the lab, runs those that sel picks, and
// removes what it made, also when ctx is canceled half-way. A check that fails
// is in the report, not in the error. An error means that the setup failed, ctx
// ended, or something could not be removed. There is a report all the same, with
// the results of what has run and, for each other check, why it has not; it is
// nil only for a selection that is wrong.
func Run(ctx context.Context, cfg Config, sel Selection) (*Report, error) {
	return run(ctx, cfg.withDefaults(), sel, Checks(), connect)
}

// Plan tells whether sel is fit for a lab with these settings and so many nodes: the error is that which [Run] would return.
func Plan(cfg Config, sel Selection, nodes int) error {
	checks, err := planned(cfg, sel, Checks())
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(checks, func(c Check) bool { return c.MinNodes <= nodes }) {
		return tooFew(cfg.Lab, nodes)
	}
	return nil
}

func planned(cfg Config, sel Selection, all []Check) ([]Check, error) {
	all = slices.DeleteFunc(slices.Clone(all), func(c Check) bool { return !c.claimedOf(cfg) })
	return sel.Select(all, cfg.Mode)
}

func tooFew(lab string, nodes int) error {
	return fmt.Errorf("run the checks: what was selected needs more nodes than the %d of lab %s", nodes, lab)
}

// connector makes the Env checks look through, and the function that takes
// everything it made away again; that one may be called after an error too.
type connector func(ctx context.Context, cfg Config) (*Env, func(context.Context) error, error)

const cleanupTimeout = 30 * time.Second

func run(ctx context.Context, cfg Config, sel Selection, all []Check, connect connector) (_ *Report, err error) {
	checks, err := planned(cfg, sel, all)
	if err != nil {
		return nil, err
	}
	report := &Report{Lab: cfg.Lab, Mode: cfg.Mode, Started: time.Now()}
	setupCtx, cancel := context.WithTimeout(ctx, cfg.SetupTimeout)
	defer cancel()
	env, remove, err := connect(setupCtx, cfg)
	defer func() {
		cleanCtx, cancel := interrupt.Cleanup(ctx, cleanupTimeout)
		defer cancel()
		removeErr := remove(cleanCtx)
		if removeErr != nil && interrupt.Stopped(ctx) {
			removeErr = fmt.Errorf("remove what the checks made in lab %s: %w: left are pods and Services with the label %s in namespace %s, and containers with the label %s=%s: the next lab verify removes them",
				cfg.Lab, interrupt.ErrStopped, runLabel, Namespace, HostLabel, cfg.Lab)
		}
		err = errors.Join(err, removeErr)
		report.Duration = time.Since(report.Started)
	}()
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
		err = fmt.Errorf("prepare the checks: %w", err)
		report.Results = notRun(checks, err)
		return report, err
	}
	checks = slices.DeleteFunc(checks, func(c Check) bool { return c.MinNodes > len(env.Nodes) })
	if len(checks) == 0 {
		return nil, tooFew(cfg.Lab, len(env.Nodes))
	}
	report.Setup = time.Since(report.Started)
	report.Results = runChecks(ctx, cfg, env, checks)
	if err := ctx.Err(); err != nil {
		return report, fmt.Errorf("run the checks: %w", context.Cause(ctx))
	}
	return report, nil
}

// NotRun is the report of a run that could not begin, for the reason that err
// gives. mode may be empty where it is not known; then it has the checks of every
// mode. It is nil for a selection that is wrong.
func NotRun(lab, mode string, sel Selection, err error) *Report {
	checks, wrong := sel.Select(Checks(), mode)
	if wrong != nil {
		return nil
	}
	return &Report{Lab: lab, Mode: mode, Started: time.Now(), Results: notRun(checks, err)}
}

func notRun(checks []Check, err error) []Result {
	results := make([]Result, len(checks))
	for i, c := range checks {
		results[i] = Result{Name: c.Name, Claim: c.Claim, Status: Error, Error: "not run: " + err.Error()}
	}
	return results
}

// runChecks runs checks, at most cfg.Parallel at once, and returns their
// results in the same order.
func runChecks(ctx context.Context, cfg Config, env *Env, checks []Check) []Result {
	results := make([]Result, len(checks))
	ended := make(chan int)
	var group errgroup.Group
	group.SetLimit(cfg.Parallel)
	go func() {
		defer close(ended)
		for i, check := range checks {
			group.Go(func() error {
				results[i] = runCheck(ctx, cfg.CheckTimeout, env, check)
				ended <- i
				return nil
			})
		}
		_ = group.Wait() // no check returns an error to it
	}()
	done := 0
	for i := range ended {
		done++
		cfg.Progress(Progress{Step: "check", Done: done, Total: len(checks), Result: &results[i]})
	}
	return results
}

// runCheck bounds one check by its deadline. A check that runs into it could
// not look, which is an error, unless it has already seen the claim broken.
func runCheck(ctx context.Context, timeout time.Duration, env *Env, check Check) Result {
	if ctx.Err() != nil {
		return notRun([]Check{check}, context.Cause(ctx))[0]
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no result within %s", timeout))
	defer cancel()
	start := time.Now()
	evidence := &Evidence{}
	err := guard(func() error { return check.Run(ctx, env, evidence) })
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", err, context.Cause(ctx))
	}
	result := evidence.result(check, err)
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
