package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/agent"
	"wirelab.dev/wirelab/internal/agent/config"
)

func newProbeCmd() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "probe [SETTINGS]",
		Short: "Say whether this node's kernel can do what the settings ask for",
		Long: "Say whether this node's kernel can do what the settings ask for: load their programs, and take them away again.\n" +
			"SETTINGS is what the agent's configuration would say, in YAML or JSON. It needs the rights of the daemon, and\n" +
			"changes nothing; beside a running daemon, too.",
		Example: `  wirelab-agent probe '{"kubeProxyReplacement": true, "bpf": {"masquerade": true}}'`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			text := ""
			if len(args) == 1 {
				text = args[0]
			}
			cfg, err := config.Parse([]byte(text), os.Environ())
			if err == nil {
				err = agent.Probe(cfg)
			}
			if err != nil && to != "" {
				err = errors.Join(err, os.WriteFile(to, []byte(err.Error()), 0o600))
			}
			return err
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "a file for what is missing, besides standard error")
	return cmd
}
