package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/agent"
	"wirelab.dev/wirelab/internal/agent/config"
)

// mostLastWords is how many bytes a kubelet takes of a container's last words: of more, their end (kubelet/container/runtime.go,
// MaxContainerTerminationMessageLength). What the verifier says is longer, and begins with what is wrong.
const mostLastWords = 4096

func newProbeCmd() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "probe SETTINGS",
		Short: "Say whether this node's kernel can do what the settings ask for",
		Long: "Say whether this node's kernel can do what the settings ask for: load their programs, and take them away again.\n" +
			"SETTINGS is what the agent's configuration would say, in YAML or JSON. It needs the rights of the daemon, and\n" +
			"changes nothing; beside a running daemon, too.",
		Example: "  kubectl -n kube-system exec ds/wirelab-agent -- wirelab-agent probe \\\n" +
			`    '{"ipv4NativeRoutingCIDR": "10.0.0.0/8", "kubeProxyReplacement": true}'`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, err := config.Parse([]byte(args[0]), os.Environ())
			if err == nil {
				err = agent.Probe(cfg)
			}
			if err != nil && to != "" {
				text := err.Error()
				err = errors.Join(err, os.WriteFile(to, []byte(text[:min(len(text), mostLastWords)]), 0o600))
			}
			return err
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "a file for the beginning of what is missing, besides standard error")
	return cmd
}
