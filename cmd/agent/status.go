package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/show"
)

func newStatusCmd() *cobra.Command {
	q := &question{}
	var verbose bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how this node's network is; fails when pods on it do not work",
		Long: "Say how this node's network is, read back from the kernel. It fails when pods on the node do not work.\n" +
			"Nodes that are not reached are named and no failure of this one.",
		Example: "  wirelab-agent status\n  wirelab-agent status --verbose\n  wirelab-agent status -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
			defer cancel()
			s, err := q.client().Status(ctx)
			if err != nil {
				return err
			}
			if err := q.print(cmd.OutOrStdout(), s, func(w io.Writer) { writeStatus(w, s, verbose) }); err != nil {
				return err
			}
			if !s.Ready {
				return errors.New("the node is not ready: " + strings.Join(s.NotReady, "; "))
			}
			return nil
		},
	}
	q.flags(cmd)
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "with reconcilers, nodes, Services, devices, routes, programs, maps and sysctls")
	return cmd
}

func writeStatus(w io.Writer, s api.Status, verbose bool) {
	now := time.Now()
	fmt.Fprint(w, show.Status(s, now))
	if !verbose {
		return
	}
	for _, b := range show.Details(s, now) {
		fmt.Fprint(w, "\n", b)
	}
}
