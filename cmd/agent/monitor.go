package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"os"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/show"
)

func newMonitorCmd() *cobra.Command {
	q := &question{}
	var flags show.EventFlags
	var stream bool
	cmd := &cobra.Command{
		Use:   "monitor",
		Short: "Print what the programs report about packets, as it happens",
		Long: `Print what the programs report about packets, as it happens. Programs write nothing while nobody
reads; what found no room is said where it is missing.

` + show.EventsSeen,
		Example: "  wirelab-agent monitor\n  wirelab-agent monitor -vv --related-to default/demo\n  wirelab-agent monitor --type drop -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			filter, err := flags.Filter(podsOf(ctx, q.client()))
			if err != nil {
				return err
			}
			m := monitor{picker: show.Picker{Filter: filter}, out: bufio.NewWriter(cmd.OutOrStdout())}
			m.begun = func() { fmt.Fprintln(cmd.ErrOrStderr(), "watching this node") }
			switch enc := json.NewEncoder(m.out); {
			case stream:
				m.event = func(e api.Event) error { return enc.Encode(api.MonitorLine{Event: &e}) }
				m.mark, m.begun = func(line api.MonitorLine) error { return enc.Encode(line) }, func() {}
				go func() { // lab is gone, however it ended
					defer cancel()
					_, _ = io.Copy(io.Discard, cmd.InOrStdin())
				}()
			case q.output == "json":
				m.event = func(e api.Event) error { return enc.Encode(e) }
			default:
				text := flags.Text()
				if f, ok := cmd.OutOrStdout().(*os.File); ok {
					text.On(f)
				}
				m.event = func(e api.Event) error { _, err := m.out.WriteString(text.String(e)); return err }
			}
			return m.run(q.client().Monitor(ctx))
		},
	}
	q.flags(cmd)
	flags.Add(cmd.Flags())
	cmd.Flags().BoolVar(&stream, "stream", false, "for lab: with marks between events, and an end with that of standard input")
	must(cmd.Flags().MarkHidden("stream"))
	must(cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(show.EventTypes(), cobra.ShellCompDirectiveNoFileComp)))
	for _, name := range flags.Ends() {
		must(cmd.RegisterFlagCompletionFunc(name, q.completion(func(ctx context.Context, c *client.Client) ([]string, error) {
			eps, err := c.LabeledEndpoints(ctx)
			return show.LabeledEndpointList().Get.AllNames(eps), err
		})))
	}
	return cmd
}

// podsOf finds the addresses of pods of this node.
func podsOf(ctx context.Context, c *client.Client) func(namespace, name string) (netip.Addr, error) {
	return func(namespace, name string) (netip.Addr, error) {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		eps, err := c.LabeledEndpoints(ctx)
		if err != nil {
			return netip.Addr{}, err
		}
		return show.AddrOf(eps)(namespace, name)
	}
}

// monitor prints a stream.
type monitor struct {
	picker show.Picker
	out    *bufio.Writer
	begun  func() // says that events are told of from now on
	event  func(api.Event) error
	mark   func(api.MonitorLine) error // nil: marks are not printed
}

func (m *monitor) run(lines iter.Seq2[api.MonitorLine, error]) (err error) {
	defer func() { err = errors.Join(err, m.out.Flush()) }()
	first := true
	for line, err := range lines {
		if err != nil {
			return err
		}
		if first {
			m.begun()
			first = false
		}
		if err := m.print(line); err != nil {
			return fmt.Errorf("print an event: %w", err)
		}
	}
	return nil
}

func (m *monitor) print(line api.MonitorLine) error {
	if line.Event != nil {
		for _, e := range m.picker.Add(*line.Event) {
			if err := m.event(e); err != nil {
				return err
			}
		}
		return nil
	}
	m.picker.Mark()
	if m.mark != nil {
		if err := m.mark(line); err != nil {
			return err
		}
	}
	return m.out.Flush() // events come in bursts, each with a mark behind it
}
