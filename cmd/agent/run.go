package main

import (
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/agent"
	"wirelab.dev/wirelab/internal/agent/config"
	"wirelab.dev/wirelab/internal/daemon"
	"wirelab.dev/wirelab/internal/version"
)

func newRunCmd() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the daemon until it is told to stop",
		Long: "Run the daemon until it is told to stop by SIGTERM. Pods and their traffic are then left as they are,\n" +
			"except when the agent's DaemonSet is gone: then the node is cleaned.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(path, os.Environ())
			if err != nil {
				return err
			}
			log := daemon.NewLogger(cmd.ErrOrStderr(), cfg.Debug.Enabled)
			limitMemory()
			server, err := agent.Connect(cfg.Kubeconfig)
			if err != nil {
				return err
			}
			log.Info("starting", "version", version.Version, "node", cfg.NodeName, "server", server.URL)
			a, err := agent.New(cfg, server, log)
			if err != nil {
				return err
			}
			return a.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&path, "config", config.DefaultPath, "the agent's configuration, a YAML file")
	return cmd
}

// limitMemory trades a little CPU for memory, unless the environment says
// otherwise: the agent allocates little once its caches are filled, and every
// node pays for what it keeps.
func limitMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}
