package main

import (
	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/cmd/nettool/internal/tap"
)

func newTapCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "tap",
		Short: "Read as JSON at which devices to listen, stream what crosses them until the input ends",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return tap.Run(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}
