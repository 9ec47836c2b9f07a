// Command wirelab-relay speaks the flow API that clients of this field know for all nodes of a cluster.
package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/daemon"
	"wirelab.dev/wirelab/internal/relay"
	"wirelab.dev/wirelab/internal/settings"
	"wirelab.dev/wirelab/internal/version"
)

func main() { daemon.Main("wirelab-relay", run) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	root := &cobra.Command{Use: "wirelab-relay", Short: "Tells the flows of all nodes, by the flow API observer.Observer"}
	root.AddCommand(newRunCmd())
	return daemon.Run(ctx, root, args, stdout, stderr)
}

func newRunCmd() *cobra.Command {
	var o relay.Options
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Answer until told to stop",
		Long:  "Answer clients of the flow API, and ask the agents of all nodes for them, until told to stop by SIGTERM.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := daemon.NewLogger(cmd.ErrOrStderr(), false)
			log.Info("starting", "version", version.Version)
			return relay.Run(cmd.Context(), o, log)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Kubeconfig, "kubeconfig", "", "a kubeconfig; empty: the service account of the pod this runs in")
	f.StringVar(&o.Cluster, "cluster-name", "default", "the name that flows are told with")
	f.StringVar(&o.Listen, "listen", ":4245", "where clients are answered")
	f.StringVar(&o.TLS, "tls", "", "a directory with tls.crt, tls.key and the CA of clients, ca.crt, which makes TLS mutual; empty: without TLS")
	f.StringVar(&o.Probes, "probes", ":9881", "where the kubelet's probes are answered")
	f.Uint16Var(&o.AgentPort, "agent-port", uint16(settings.Default().Flows.Relay.AgentPort), "the setting flows.relay.agentPort") //nolint:gosec // a port
	f.StringVar(&o.AgentTLS, "agent-tls", "/etc/wirelab-relay-tls", "a directory with what agents are asked with: tls.crt, tls.key and their CA, ca.crt")
	return cmd
}
