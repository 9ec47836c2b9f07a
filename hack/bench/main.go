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

	"wirelab.dev/wirelab/internal/bench"
	"wirelab.dev/wirelab/internal/bench/bed"
	"wirelab.dev/wirelab/internal/bench/plan"
	"wirelab.dev/wirelab/internal/bench/workload"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
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

// options are the command line.
type options struct {
	rounds  int
	window  workload.Window
	cpu     int
	samples string
	report  string
}

func parse(args []string, stderr io.Writer) (options, error) {
	o := options{window: workload.DefaultWindow()}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.rounds, "rounds", 9, "how often every path is measured; 7 at least for a result")
	f.DurationVar(&o.window.WarmUp, "warm-up", o.window.WarmUp, "how long before each measurement")
	f.DurationVar(&o.window.Length, "window", o.window.Length, "how long each measurement")
	f.IntVar(&o.cpu, "cpu", runtime.NumCPU()-1, "the CPU that both ends are pinned to")
	f.StringVar(&o.samples, "samples", "", "file for one line of JSON a sample")
	f.StringVar(&o.report, "report", "", "file for the report, besides stdout")
	if err := f.Parse(args); err != nil {
		return o, errors.Join(errUsage, err)
	}
	if f.NArg() != 0 || o.rounds < 1 || o.cpu < 0 || o.cpu >= runtime.NumCPU() {
		return o, fmt.Errorf("%w: no arguments, at least one round, and a CPU below %d", errUsage, runtime.NumCPU())
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
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
		return fmt.Errorf("%d of %d %w", len(missed), len(report.Rows), errMissed)
	}
	return nil
}

func measure(ctx context.Context, o options, stderr io.Writer) (_ *bench.Report, err error) {
	report := &bench.Report{Began: time.Now(), Machine: bench.Machine()}
	b, err := bed.Make(o.cpu)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	layout, err := b.LayOut(ctx, bed.FullSizes(), func(what string) { fmt.Fprintln(stderr, "making", what) })
	if err != nil {
		return nil, err
	}
	suites, err := plan.Suites(layout, o.window)
	if err != nil {
		return nil, err
	}
	runner := bench.Runner{Rounds: o.rounds, Random: bench.Now(), CPU: o.cpu, Progress: progressTo(stderr)}
	for _, s := range suites {
		samples, err := runner.Run(ctx, s)
		if err != nil {
			return nil, err
		}
		report.Samples = append(report.Samples, samples...)
	}
	report.AddControls(plan.Controls()...)
	report.AddComparisons(plan.Comparisons()...)
	fmt.Fprintln(stderr, "measuring programs and maps")
	report.Rows = append(report.Rows, plan.Gates(ctx, layout)...)
	report.Took = time.Since(report.Began)
	return report, nil
}

// progressTo says now and then how far a suite is.
func progressTo(w io.Writer) func(suite string, done, of int) {
	return func(suite string, done, of int) {
		if done%20 == 0 {
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
