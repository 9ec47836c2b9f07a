package main

import (
	"cmp"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/version"
	"wirelab.dev/wirelab/verify/probe"
)

func newRootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:           "nettool",
		Short:         "Serve, probe and measure a network",
		Version:       version.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          args(cobra.NoArgs),
		RunE:          noCommand,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newServeCmd(), newProbeCmd(), newTapCmd(), newBenchCmd())
	return root
}

// noCommand shows what there is to choose from, which is not what was asked.
func noCommand(cmd *cobra.Command, _ []string) error {
	cmd.SetOut(cmd.ErrOrStderr())
	return usageError{errors.Join(errors.New("no command given"), cmd.Usage())}
}

// args makes a wrong number of arguments a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := check(cmd, given); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// localIdentity reads what the pod's manifest passes down. Outside a pod the
// host's name stands for both pod and node.
func localIdentity() probe.Identity {
	id := probe.Identity{
		Pod: os.Getenv("POD_NAME"), Namespace: os.Getenv("POD_NAMESPACE"),
		Node: os.Getenv("NODE_NAME"), PodIP: os.Getenv("POD_IP"),
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	id.Pod = cmp.Or(id.Pod, host)
	if id.Node == "" && id.Namespace == "" {
		id.Node = host
	}
	return id
}
