package main

import (
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/cmd/nettool/internal/server"
)

func newServeCmd() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Answer HTTP and UDP with who answered and who asked",
		Long: `Answer HTTP and UDP on one port with the pod, its node and the client's address
as the server saw it. HTTP answers in text, or in JSON when asked by the header
"Accept: application/json" or by ?format=json. UDP answers in JSON.

POD_NAME, POD_NAMESPACE, POD_IP and NODE_NAME in the environment say who answers.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return usageError{fmt.Errorf("read --listen: %w", err)}
			}
			s, err := server.Listen(cmd.Context(), at, localIdentity())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "nettool: serving HTTP and UDP on %s\n", s.Addr())
			return s.Serve(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&address, "listen", "0.0.0.0:80", "address and port")
	return cmd
}
