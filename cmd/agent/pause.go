package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/show"
)

func newPauseCmd() *cobra.Command {
	howLong := 10 * time.Minute
	cmd := control("pause RECONCILER...", "Keep reconcilers from mending what they keep, to try faults",
		"Keep reconcilers of this node's agent from running for a while. What they keep (wirelab-agent status --verbose\n"+
			"lists them) can then be damaged and looked at: it is mended when they go on. Nothing that wants them to run, a\n"+
			"new node or Service, has an effect before. The status says which are paused; an agent that starts anew has none.",
		"  wirelab-agent pause routes\n  wirelab-agent pause devices endpoints --for 2m",
		func(ctx context.Context, q *question, names []string) (api.Status, error) {
			return q.client().Pause(ctx, howLong, names...)
		})
	cmd.Args = cobra.MinimumNArgs(1)
	cmd.Flags().DurationVar(&howLong, "for", howLong, "how long, an hour at most")
	return cmd
}

func newResumeCmd() *cobra.Command {
	return control("resume [RECONCILER...]", "Have paused reconcilers go on",
		"Have paused reconcilers of this node's agent go on: those that are named, or all. They run at once.",
		"  wirelab-agent resume",
		func(ctx context.Context, q *question, names []string) (api.Status, error) {
			return q.client().Resume(ctx, names...)
		})
}

// control is a command that tells the agent something about its reconcilers and prints how they fare then.
func control(use, short, long, example string, tell func(context.Context, *question, []string) (api.Status, error)) *cobra.Command {
	q := &question{}
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, names []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
			defer cancel()
			s, err := tell(ctx, q, names)
			if err != nil {
				return err
			}
			return q.print(cmd.OutOrStdout(), s.Reconcilers, func(w io.Writer) {
				fmt.Fprintf(w, "Reconcilers: %s\n", show.Reconcilers(s.Reconcilers))
			})
		},
	}
	q.flags(cmd)
	return cmd
}
