package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/agent"
	"wirelab.dev/wirelab/internal/agent/config"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/daemon"
)

func newCleanupCmd() *cobra.Command {
	var root string
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove everything wirelab can have made on this node",
		Long: "Remove everything wirelab can have made on this node: pod interfaces, devices, routes, rules, programs and\n" +
			"their maps, the CNI plugin and its configuration. Uninstalling the chart does it by itself; this is for a node\n" +
			"that was not there then. It needs root in the node's network namespace and refuses while an agent runs.",
		Example: "  kubectl debug node/worker --image wirelab/agent:TAG --profile sysadmin -- wirelab-agent cleanup --root /host",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
			defer cancel()
			return agent.Clean(ctx, pathsBelow(root), daemon.NewLogger(cmd.ErrOrStderr(), false))
		},
	}
	cmd.Flags().StringVar(&root, "root", "", "where the node's root file system is mounted; empty: this is the node")
	return cmd
}

// pathsBelow are the usual paths of a node whose root is seen at root.
func pathsBelow(root string) config.Paths {
	paths := config.Default().Paths
	paths.HostRoot = root
	paths.BPFFS = filepath.Join("/", root, paths.BPFFS)
	paths.RunDir = filepath.Join("/", root, api.RunDir)
	return paths
}
