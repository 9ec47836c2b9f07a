package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/bench"
	"wirelab.dev/wirelab/labs"
)

func newBenchCmd() *cobra.Command {
	var of labName
	var o labs.BenchOptions
	out := newFormat("text", "json")
	cmd := &cobra.Command{
		Use:   "bench [LAB]",
		Short: "Measure a lab: pod to pod and through Services, against node to node",
		Long: `bench measures requests, connections and streams from pod to pod and through a Service, on one
node and across two, each divided by the same from node to node at nearly the same time, and
what the agents take of the nodes. It makes pods and Services for that and removes them.

All nodes of a lab are on this machine, and share it with whatever else runs here, so bars are
loose: they tell one mode from another. The exit status is 1 when one does not hold, or when
the run proves nothing because the reference differs from itself.`,
		Example: "  lab bench\n  lab bench ebpf --rounds 7\n  lab bench ebpf -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Rounds < 1 || o.Idle < time.Second {
				return usageError{errors.New("--rounds has to be at least 1, --idle at least 1s")}
			}
			o.Progress = benchProgress(cmd.ErrOrStderr())
			return of.open(cmd, func(l *labs.Lab) error {
				report, err := l.Bench(cmd.Context(), o)
				if report != nil {
					err = errors.Join(err, out.print(cmd.OutOrStdout(), report, report.Markdown))
				}
				if err != nil {
					return err
				}
				return judged(l.Name, report)
			})
		},
	}
	of.argument(cmd)
	cmd.Flags().IntVar(&o.Rounds, "rounds", 3, "how often every path is measured")
	cmd.Flags().DurationVar(&o.Idle, "idle", 15*time.Second, "how long the agents' CPU time is watched")
	out.flag(cmd)
	return cmd
}

// judged is the error of a report that is not fine.
func judged(lab string, report *bench.Report) error {
	missed := report.Missed()
	switch {
	case !report.Proves():
		return failedError{fmt.Errorf("lab %s: the run proves nothing: the reference differs from itself; run it again on a quieter machine", lab)}
	case len(missed) > 0:
		return failedError{fmt.Errorf("lab %s: %d of %d bars do not hold", lab, len(missed), len(report.Goals()))}
	}
	return nil
}

// benchProgress says what is measured, once at its beginning and once half-way.
func benchProgress(w io.Writer) func(what string, done, of int) {
	return func(what string, done, of int) {
		switch done {
		case 0:
			progressLine(w, "bench: %s", what)
		case of / 2:
			progressLine(w, "bench: %s, %d of %d", what, done, of)
		}
	}
}
