package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/api"
)

func newDialCmd() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "dial",
		Short: "Connect standard input and output with the agent's socket, as lab does",
		Long: "Connect standard input and output with the agent's socket, on which it speaks HTTP. This is how lab has agents tell\n" +
			"of flows: it runs this command in their pods. It ends when its input does.",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return dial(cmd.Context(), socket, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&socket, "socket", api.AgentSocket, "the agent's socket")
	return cmd
}

// dial copies in both directions until in, or what the agent says, ends.
func dial(ctx context.Context, socket string, in io.Reader, out io.Writer) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("ask the agent at %s (is it running?): %w", socket, err)
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	go func() {
		_, _ = io.Copy(conn, in) // an error is an end like any other
		conn.Close()
	}()
	if _, err := io.Copy(out, conn); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("pass on what the agent says: %w", err)
	}
	return nil
}
