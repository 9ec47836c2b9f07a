package main

import (
	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/show"
)

func newEndpointCmd() *cobra.Command {
	return listCmd(show.LabeledEndpointList(), (*client.Client).LabeledEndpoints)
}

func newIdentityCmd() *cobra.Command {
	return listCmd(show.IdentityList(), (*client.Client).Identities)
}

func newServiceCmd() *cobra.Command {
	return listCmd(show.ServiceList(), (*client.Client).Services)
}

func newFeaturesCmd() *cobra.Command {
	return listCmd(show.FeatureList(), (*client.Client).Features)
}

func newBPFCmd() *cobra.Command {
	return group("bpf", "What is in the BPF maps of this node",
		listCmd(show.FrontendList(), (*client.Client).Frontends),
		listCmd(show.FlowList(), (*client.Client).Flows),
		listCmd(show.TranslationList(), (*client.Client).Translations),
		listCmd(show.EndpointList(), (*client.Client).Endpoints),
		listCmd(show.IPCacheList(), (*client.Client).IPCache),
		listCmd(show.TunnelList(), (*client.Client).Tunnels),
	)
}

// group is a command that only has others below it.
func group(use, short string, below ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(below...)
	return cmd
}
