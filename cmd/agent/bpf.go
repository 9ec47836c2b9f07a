package main

import (
	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/show"
)

func newServiceCmd() *cobra.Command {
	return group("service", "Services as this node's maps have them", listing[api.Service]{
		short: "List Services with their addresses and the backends in use",
		long: "List Services with their addresses and the backends that new connections are sent to, read back from the\n" +
			"maps. \"here\" is behind a backend on this node. It fails in a mode that leaves Services to kube-proxy.",
		example: "  wirelab-agent service list\n  wirelab-agent service list --service default/demo -o json",
		ask:     (*client.Client).Services, pick: show.Filter.Services, table: show.Services,
		filters: []string{"service", "frontend"},
	}.command())
}

func newBPFCmd() *cobra.Command {
	return group("bpf", "What is in the BPF maps of this node",
		group("lb", "Frontends and their backends", listing[api.Frontend]{
			short: "List the frontends and, a line each, their backends",
			long: "List the frontends in the map lab_services and, a line each, the backends of their lists in lab_slots.\n" +
				"FROM says who meets an entry: pods and processes of the node (inside), what comes in at a network card\n" +
				"(outside), or both.",
			example: "  wirelab-agent bpf lb list\n  wirelab-agent bpf lb list --frontend 10.96.0.10:53",
			ask:     (*client.Client).Frontends, pick: show.Filter.Frontends, table: show.Frontends,
			filters: []string{"service", "frontend"},
		}.command()),
		group("ct", "Translated flows, as they are opened", listing[api.Flow]{
			short: "List translated flows, as they are opened",
			long: "List the flows in the map lab_ct: what is sent, and what it goes on as. Flows that were translated at a\n" +
				"socket are not here: their packets need no translation.",
			example: "  wirelab-agent bpf ct list\n  wirelab-agent bpf ct list --service default/demo --address 10.0.1.7",
			ask:     (*client.Client).Flows, pick: show.Filter.Flows, table: show.Flows,
			filters: []string{"service", "address"},
		}.command()),
		group("nat", "Translated flows, as their answers come", listing[api.Flow]{
			short:   "List translated flows, as their answers come",
			long:    "List the flows in the map lab_nat: what answers, and what the client sees as its answer.",
			example: "  wirelab-agent bpf nat list\n  wirelab-agent bpf nat list --address 172.18.0.4",
			ask:     (*client.Client).Translations, pick: show.Filter.Flows, table: show.Translations,
			filters: []string{"service", "address"},
		}.command()),
		group("endpoint", "Pods of this node, as packets find them", listing[api.Endpoint]{
			short:   "List the map of endpoints: address, number, device and MACs",
			long:    "List the map lab_endpoints, by which packets find the pods of this node.",
			example: "  wirelab-agent bpf endpoint list",
			ask:     (*client.Client).Endpoints, table: show.Endpoints,
		}.command()),
	)
}

// group is a command that only has others below it.
func group(use, short string, below ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(below...)
	return cmd
}
