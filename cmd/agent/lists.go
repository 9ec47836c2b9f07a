package main

import (
	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/show"
)

// newListCmds are the commands that list what the agent reads back.
func newListCmds() []*cobra.Command {
	return []*cobra.Command{
		listCmd(show.LabeledEndpointList(), (*client.Client).LabeledEndpoints),
		listCmd(show.IdentityList(), (*client.Client).Identities),
		listCmd(show.ServiceList(), (*client.Client).Services),
		listCmd(show.FeatureList(), (*client.Client).Features),
		group("bpf", "What is in the BPF maps of this node",
			listCmd(show.FrontendList(), (*client.Client).Frontends),
			listCmd(show.FlowList(), (*client.Client).Flows),
			listCmd(show.TranslationList(), (*client.Client).Translations),
			listCmd(show.EndpointList(), (*client.Client).Endpoints),
			listCmd(show.IPCacheList(), (*client.Client).IPCache),
			listCmd(show.TunnelList(), (*client.Client).Tunnels),
		),
	}
}

// group is a command that only has others below it.
func group(use, short string, below ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(below...)
	return cmd
}
