// Command wirelab-agent is the daemon of a node, and the tool to ask it.
package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/daemon"
)

func main() { daemon.Main("wirelab-agent", run) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	root := &cobra.Command{Use: "wirelab-agent", Short: "The network of a node: the daemon, and the commands to ask it"}
	root.AddCommand(newListCmds()...)
	root.AddCommand(newRunCmd(), newStatusCmd(), newMonitorCmd(), newFlowsCmd(), newDialCmd(), newPauseCmd(), newResumeCmd(), newCleanupCmd(), newMountBPFFSCmd(), newProbeCmd())
	return daemon.Run(ctx, root, args, stdout, stderr)
}
