// Command wirelab-operator does what a cluster needs once: podCIDRs out of the cluster's pool, and the collection of what
// nobody uses any more.
package main

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/daemon"
	"wirelab.dev/wirelab/internal/operator"
	"wirelab.dev/wirelab/internal/settings"
	"wirelab.dev/wirelab/internal/version"
)

func main() { daemon.Main("wirelab-operator", run) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	root := &cobra.Command{Use: "wirelab-operator", Short: "What a cluster needs once: podCIDRs, and the collection of what nobody uses any more"}
	root.AddCommand(newRunCmd())
	return daemon.Run(ctx, root, args, stdout, stderr)
}

func newRunCmd() *cobra.Command {
	var o operator.Options
	ipam := settings.Default().IPAM
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Lead, or wait until whoever leads ends, until told to stop",
		Long: "Lead, or wait until whoever leads ends, until told to stop by SIGTERM. Of all operators with a lease in one\n" +
			"namespace one leads. What it has given out stays when it stops.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.IPAM = ipam
			log := daemon.NewLogger(cmd.ErrOrStderr(), false)
			log.Info("starting", "version", version.Version)
			return operator.Run(cmd.Context(), o, log)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Kubeconfig, "kubeconfig", "", "a kubeconfig; empty: the service account of the pod this runs in")
	f.StringVar(&o.Namespace, "namespace", os.Getenv("WIRELAB_NAMESPACE"), "where the lease is")
	f.StringVar(&o.Listen, "listen", "127.0.0.1:9880", "where the kubelet's probes are answered")
	f.StringVar(&ipam.Mode, "ipam-mode", ipam.Mode, "the setting ipam.mode")
	f.StringSliceVar(&ipam.Operator.ClusterPoolIPv4PodCIDRList, "cluster-pool-ipv4-pod-cidr-list", ipam.Operator.ClusterPoolIPv4PodCIDRList, "the setting ipam.operator.clusterPoolIPv4PodCIDRList")
	f.IntVar(&ipam.Operator.ClusterPoolIPv4MaskSize, "cluster-pool-ipv4-mask-size", ipam.Operator.ClusterPoolIPv4MaskSize, "the setting ipam.operator.clusterPoolIPv4MaskSize")
	return cmd
}
