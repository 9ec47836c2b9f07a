package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/show"
	"wirelab.dev/wirelab/labs"
)

func newFlowsCmd() *cobra.Command {
	var of whose
	var which show.FlowsAsked
	var serve flowServer
	out := newFormat("text", "json")
	cmd := &cobra.Command{
		Use:   "flows [LAB]",
		Short: show.FlowsShort,
		Long:  show.FlowsLong("the nodes of a lab"),
		Example: `  lab flows --no-nodes -f
  lab flows --pod default/demo-abcde -f
  lab flows --verdict dropped --since 10m
  lab flows --protocol udp --port 53 --last 100 -o json
  lab flows --serve`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := which.Filter(time.Now())
			if err != nil {
				return usageError{err}
			}
			if err := serve.check(cmd.Flags()); err != nil {
				return usageError{err}
			}
			return of.open(cmd, func(l *labs.Lab) error {
				if serve.on {
					return serve.run(cmd, l)
				}
				return l.Flows(cmd.Context(), of.node, filter, flowPrinter(cmd.OutOrStdout(), l, out.value == "json"))
			})
		},
	}
	of.argument(cmd)
	which.Flags(cmd.Flags())
	out.flag(cmd)
	serve.addFlags(cmd)
	for key, complete := range map[string]cobra.CompletionFunc{
		"pod": completePods, "from-pod": completePods, "to-pod": completePods, "namespace": completeNamespaces, "identity": completeIdentities, "port": cobra.NoFileCompletions,
		"verdict":  cobra.FixedCompletions(api.FlowVerdicts(), cobra.ShellCompDirectiveNoFileComp),
		"protocol": cobra.FixedCompletions(api.FlowProtocols(), cobra.ShellCompDirectiveNoFileComp),
		"last":     cobra.NoFileCompletions, "since": cobra.NoFileCompletions,
	} {
		must(cmd.RegisterFlagCompletionFunc(key, complete))
	}
	return cmd
}

// flowPrinter prints lines one by one, as objects or as a table with a column for nodes.
func flowPrinter(out io.Writer, l *labs.Lab, asJSON bool) func(api.FlowLine) error {
	enc := json.NewEncoder(out)
	short := func(node string) string { return strings.TrimPrefix(node, l.Name+"-") }
	var table show.FlowTable
	if f, ok := fileOf(out); ok {
		table.On(f)
	}
	for _, n := range l.Nodes {
		table.Node = max(table.Node, len(short(n.Name)))
	}
	head := false
	return func(line api.FlowLine) (err error) {
		switch {
		case line.Flow == nil && line.Lost == nil:
		case asJSON:
			err = enc.Encode(line)
		default:
			text := table.Line(line, short(line.Node()))
			if !head {
				text, head = table.Head()+text, true
			}
			_, err = io.WriteString(out, text)
		}
		if err != nil {
			return fmt.Errorf("print a flow: %w", err)
		}
		return nil
	}
}

// completePods completes with the pods of the lab that was named.
func completePods(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return completeFromLab(cmd, args, func(ctx context.Context, l *labs.Lab) ([]string, error) { return l.Pods(ctx) })
}

// completeNamespaces completes with the namespaces that these are in.
func completeNamespaces(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return completeFromLab(cmd, args, func(ctx context.Context, l *labs.Lab) (names []string, err error) {
		pods, err := l.Pods(ctx)
		for _, pod := range pods {
			namespace, _, _ := strings.Cut(pod, "/")
			names = append(names, namespace)
		}
		slices.Sort(names)
		return slices.Compact(names), err
	})
}
