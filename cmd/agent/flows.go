package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/show"
)

func newFlowsCmd() *cobra.Command {
	q := &question{}
	var which show.FlowsAsked
	cmd := &cobra.Command{
		Use:               "flows",
		Short:             show.FlowsShort,
		Long:              show.FlowsLong("the node"),
		Example:           "  wirelab-agent flows --pod default/demo -f\n  wirelab-agent flows --verdict dropped --since 10m -o json",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := which.Filter(time.Now())
			if err != nil {
				return err
			}
			return printFlows(cmd.Context(), cmd.OutOrStdout(), q, filter)
		},
	}
	q.flags(cmd)
	which.Flags(cmd.Flags())
	for _, key := range api.FlowFilterKeys() {
		must(cmd.RegisterFlagCompletionFunc(key, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
			defer cancel()
			words, err := flowWords(ctx, key, q.client())
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			return words, cobra.ShellCompDirectiveNoFileComp
		}))
	}
	return cmd
}

// flowWords is what a flag that picks flows can be completed with.
func flowWords(ctx context.Context, key string, c *client.Client) (words []string, err error) {
	switch key {
	case "verdict":
		return api.FlowVerdicts(), nil
	case "protocol":
		return api.FlowProtocols(), nil
	case "identity":
		return identityNumbers(ctx, c)
	case "pod", "from-pod", "to-pod":
		endpoints, err := c.Endpoints(ctx)
		for _, e := range endpoints {
			words = append(words, e.Namespace+"/"+e.Pod)
		}
		return words, err
	}
	return nil, nil
}

func printFlows(ctx context.Context, out io.Writer, q *question, filter api.FlowFilter) error {
	enc := json.NewEncoder(out)
	var table show.FlowTable
	if f, ok := out.(*os.File); ok {
		table.On(f)
	}
	for line, err := range q.client().FlowRecords(ctx, filter) {
		switch {
		case err != nil:
			return err
		case line.Start != nil && len(line.Start.Unknown) > 0:
			return fmt.Errorf("the node knows of no %s: wirelab-agent endpoint list and identity list have what there is", strings.Join(line.Start.Unknown, ", no "))
		case line.Start != nil && q.output == "text":
			_, err = io.WriteString(out, table.Head())
		case line.Flow == nil && line.Lost == nil:
		case q.output == "json":
			err = enc.Encode(line)
		default:
			_, err = io.WriteString(out, table.Line(line, ""))
		}
		if err != nil {
			return fmt.Errorf("print a flow: %w", err)
		}
	}
	return nil
}
