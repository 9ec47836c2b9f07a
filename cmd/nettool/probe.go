package main

import (
	"os"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/cmd/nettool/internal/netns"
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
	var container string
	cmd := &cobra.Command{
		Use:   "batch",
		Short: "Read probes as JSON lines, run them at once, print each reply as it comes",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if container != "" {
				ns, err := netns.Of(container)
				if err != nil {
					return err
				}
				return netns.Restart(ns, []string{os.Args[0], "probe", "batch"})
			}
			return prober.Prober{Identity: localIdentity()}.Batch(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&container, "container", "", "send them from the network namespace of this container, by its ID")
	return cmd
}
