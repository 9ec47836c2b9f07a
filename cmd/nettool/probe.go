package main

import (
	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/cmd/nettool/internal/prober"
)

func newProbeCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "probe",
		Short: "Send probes and print what came back as lines of JSON",
		Args:  args(cobra.NoArgs),
		RunE:  noCommand,
	}
	cmd.AddCommand(newBatchCmd(), newHTTPCmd())
	return cmd
}

func newBatchCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "batch",
		Short: "Read probes as JSON lines, run them at once, print each reply as it comes",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return prober.Prober{Identity: localIdentity()}.Batch(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}
