package main

import (
	"context"
	"encoding/json"
	"io"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/show"
	"wirelab.dev/wirelab/labs"
)

func newMonitorCmd() *cobra.Command {
	var of whose
	var flags show.EventFlags
	out := newFormat("text", "json")
	cmd := &cobra.Command{
		Use:   "monitor [LAB] [-- COMMAND...]",
		Short: "Print what the programs report about packets, on all nodes, as it happens",
		Long: `monitor prints what the BPF programs on all nodes report about packets, in the order of time. It
says on standard error when it watches.

` + show.EventsSeen + `

With a command it runs it then, prints what happened while it ran, and ends with its exit status. What
the command prints goes to standard error.`,
		Example: `  lab monitor
  lab monitor ebpf --type drop
  lab monitor -vv --related-to default/cni -- lab shell cni -- ping -c 1 10.0.2.4`,
		Args: usageArgs(func(cmd *cobra.Command, args []string) error {
			args, _, err := splitCommand(cmd, args)
			if err != nil {
				return err
			}
			return of.take(cmd, args)
		}),
		ValidArgsFunction: completeLabs,
		Annotations:       map[string]string{labArgument: ""},
	}
	of.flags(cmd)
	flags.Add(cmd.Flags())
	out.flag(cmd)
	must(cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(show.EventTypes(), cobra.ShellCompDirectiveNoFileComp)))
	for _, name := range flags.Ends() {
		must(cmd.RegisterFlagCompletionFunc(name, completeEnds))
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := flags.Check(); err != nil {
			return usageError{err}
		}
		_, run, err := behindDash(cmd, args)
		if err != nil {
			return err
		}
		return of.open(cmd, func(l *labs.Lab) error {
			filter, err := flags.Filter(l.PodAddr(cmd.Context()))
			if err != nil {
				return err
			}
			o := labs.MonitorOptions{Node: of.node, Pick: filter.Args(), Say: waiting(cmd.ErrOrStderr())}
			if run != nil {
				o.While = run.run
			}
			err = l.Monitor(cmd.Context(), o, eventWriter(cmd.OutOrStdout(), out.value == "json", l.Name, flags.Text()))
			if run != nil && run.ran() {
				return run.result()
			}
			return err
		})
	}
	return cmd
}

// eventWriter writes events as they come.
func eventWriter(w io.Writer, machine bool, lab string, text show.EventText) func(api.Event) error {
	if machine {
		enc := json.NewEncoder(w)
		return func(e api.Event) error { return enc.Encode(e) }
	}
	text.Nodes, text.Lab = true, lab
	if f, ok := fileOf(w); ok {
		text.On(f)
	}
	return func(e api.Event) error {
		_, err := io.WriteString(w, text.String(e))
		return err
	}
}

// completeEnds completes with the pods of the lab that was named.
func completeEnds(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return completeFromLab(cmd, args, func(ctx context.Context, l *labs.Lab) ([]string, error) { return l.PodsWithAddress(ctx) })
}
