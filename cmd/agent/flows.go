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
		must(cmd.RegisterFlagCompletionFunc(key, q.completion(wordsFor(key))))
	}
	return cmd
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
