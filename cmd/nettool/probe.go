package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/cmd/nettool/internal/prober"
	"wirelab.dev/wirelab/verify/probe"
)

func newProbeCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "probe",
		Short: "Send one probe and print what came back as a line of JSON",
		Long: `Send one probe and print what came back as a line of JSON. A reply with "error"
says that the probe could not be sent, one with "failure" what the network did
wrong; both end with status 1.`,
		Args: args(cobra.NoArgs),
		RunE: noCommand,
	}
	cmd.AddCommand(newBatchCmd(), newHTTPCmd(), newTCPCmd(), newUDPCmd(), newICMPCmd(), newARPCmd(),
		newDNSCmd(), newSendCmd(), newCaptureCmd())
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

// probeCmd is a subcommand with --timeout that runs the request its arguments
// and flags make.
func probeCmd(use, short string, wants cobra.PositionalArgs, timeout time.Duration, request func(args []string) (probe.Request, error)) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: args(wants)}
	given := cmd.Flags().Duration("timeout", timeout, "how long the whole probe may take")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := request(args)
		if err != nil {
			return usageError{err}
		}
		r.Timeout = probe.Duration(*given)
		return runProbe(cmd, r)
	}
	return cmd
}

func runProbe(cmd *cobra.Command, request probe.Request) error {
	p := prober.Prober{Identity: localIdentity()}
	reply := p.Run(cmd.Context(), request, func(probe.Reply) {})
	encoder := json.NewEncoder(cmd.OutOrStdout())
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(reply); err != nil {
		return fmt.Errorf("print the reply: %w", err)
	}
	if reply.Error != "" || reply.Failure != "" {
		return errProbe
	}
	return nil
}
