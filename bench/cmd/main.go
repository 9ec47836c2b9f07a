// Command bench measures this project against its goals, on this machine, as root: see docs/performance.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"wirelab.dev/wirelab/bench"
	"wirelab.dev/wirelab/bench/controlplane"
	"wirelab.dev/wirelab/bench/goals"
	"wirelab.dev/wirelab/bench/testbed"
	"wirelab.dev/wirelab/bench/workload"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	os.Exit(exitCode(err))
}

var (
	// errMissed says that a bar does not hold, errUsage that the command line makes no sense, errProvesNothing
	// that a control came out wrong, so that nothing can be said about bars.
	errMissed        = errors.New("bars do not hold")
	errUsage         = errors.New("bad usage")
	errProvesNothing = errors.New("the run proves nothing: what had to come out did not")
)

// exitCode is 0 when every bar holds, 1 when one does not or measuring failed, 2 for bad usage, 3 when the run
// proves nothing.
func exitCode(err error) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	case errors.Is(err, errProvesNothing):
		return 3
	}
	return 1
}

// asAgent is the only argument of the processes that are agents for this one.
const asAgent = "agent"

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) == 1 && args[0] == asAgent {
		return controlplane.RunAgent(ctx, stdin, stderr)
	}
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("this makes network namespaces and loads BPF programs: run it as root")
	}
	// Two threads wait in system calls that Go's scheduler does not know of, beside the rest.
	runtime.GOMAXPROCS(runtime.NumCPU() + 4)
	report, err := measure(ctx, o, stderr)
	if err != nil {
		return err
	}
	if err := write(o, report, stdout); err != nil {
		return err
	}
	missed := report.Missed()
	switch {
	case !report.Proves():
		return errProvesNothing
	case len(missed) > 0:
		return fmt.Errorf("%d of %d %w", len(missed), len(report.Goals()), errMissed)
	}
	return nil
}

func measure(ctx context.Context, o options, stderr io.Writer) (*bench.Report, error) {
	report := &bench.Report{Began: time.Now(), Machine: bench.Machine(o.cpu)}
	runner := bench.Runner{Random: bench.Now(), CPU: o.cpu, Progress: progressTo(stderr)}
	shares := o.shares()
	var fixed []bench.Row
	for i, rounds := range shares {
		fmt.Fprintf(stderr, "setup %d of %d\n", i+1, len(shares))
		runner.Rounds = rounds
		err := inSetup(ctx, o, stderr, func(b *testbed.Bed, l *testbed.Setup) error {
			samples, err := sample(ctx, o, runner, l)
			report.Samples = append(report.Samples, samples...)
			if i == len(shares)-1 && err == nil {
				fixed = unsampled(ctx, o, stderr, b, l)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		runner.First += rounds
	}
	judge(o, report)
	report.Rows = append(report.Rows, fixed...)
	report.Took = time.Since(report.Began)
	return report, nil
}

// inSetup makes all paths for as long as f runs.
func inSetup(ctx context.Context, o options, stderr io.Writer, f func(*testbed.Bed, *testbed.Setup) error) (err error) {
	b, err := testbed.Make(o.cpu)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	setup, err := b.SetUp(ctx, testbed.FullSizes(), func(what string) { fmt.Fprintln(stderr, "making", what) })
	if err != nil {
		return err
	}
	return f(b, setup)
}

// sample runs the workloads.
func sample(ctx context.Context, o options, runner bench.Runner, l *testbed.Setup) (samples []bench.Sample, err error) {
	suites, err := goals.Suites(l, o.window)
	if err != nil {
		return nil, err
	}
	restore, err := workload.KeepOff(o.cpu)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, restore()) }()
	for _, s := range suites {
		if !o.wants(s.Name) {
			continue
		}
		more, err := runner.Run(ctx, s)
		if err != nil {
			return nil, err
		}
		samples = append(samples, more...)
	}
	return samples, nil
}

// unsampled measures what needs no rounds.
func unsampled(ctx context.Context, o options, stderr io.Writer, b *testbed.Bed, l *testbed.Setup) (rows []bench.Row) {
	if o.wants(partPrograms) {
		fmt.Fprintln(stderr, "measuring programs and maps")
		rows = append(rows, goals.Gates(ctx, l)...)
	}
	if o.wants(partControl) {
		fmt.Fprintln(stderr, "measuring the control plane")
		rows = append(rows, goals.ControlPlane(ctx, b, l, o.plugin, []string{"/proc/self/exe", asAgent})...)
	}
	return rows
}

// judge looks at the controls and goals of what was sampled.
func judge(o options, report *bench.Report) {
	for _, c := range goals.Controls() {
		if o.wants(c.Suite) {
			report.AddControls(c)
		}
	}
	for _, c := range goals.Comparisons() {
		if o.wants(c.Suite) {
			report.AddComparisons(c)
		}
	}
}

// progressTo says now and then how far a suite is.
func progressTo(w io.Writer) func(suite string, done, of int) {
	return func(suite string, done, of int) {
		if done%200 == 0 {
			fmt.Fprintf(w, "measuring %s: %d of %d\n", suite, done, of)
		}
	}
}

func write(o options, report *bench.Report, stdout io.Writer) error {
	text := report.Markdown()
	if _, err := io.WriteString(stdout, text); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if o.report != "" {
		if err := os.WriteFile(o.report, []byte(text), 0o644); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
	}
	if o.samples == "" {
		return nil
	}
	f, err := os.Create(o.samples)
	if err != nil {
		return fmt.Errorf("write samples: %w", err)
	}
	return errors.Join(bench.WriteSamples(f, report.Samples), f.Close())
}
