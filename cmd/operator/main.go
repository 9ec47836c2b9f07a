// Command wirelab-operator does what a cluster needs once: podCIDRs out of the cluster's pool, and the collection of what
// nobody uses any more.
package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/daemon"
)

func main() { daemon.Main("wirelab-operator", run) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	root := &cobra.Command{Use: "wirelab-operator", Short: "What a cluster needs once: podCIDRs, and the collection of what nobody uses any more"}
	root.AddCommand(newRunCmd())
	return daemon.Run(ctx, root, args, stdout, stderr)
}
