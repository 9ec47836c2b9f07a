package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/show"
	"wirelab.dev/wirelab/labs"
)

// listing is a command that lists one thing as the agents on all nodes have it.
type listing[T any] struct {
	short, long, example string
	ask                  []string // the agent's own command
	table                func([]T) show.Table
	filters              []string // flags of that command, passed on
}

func newServiceCmd() *cobra.Command {
	return parent("service", "Services as the nodes' maps have them", listing[api.Service]{
		short: "List Services with their addresses and the backends in use",
		long: `list shows Services node by node: their addresses, and the backends that each node sends new
connections to. "here" is behind a backend on the node itself. It is read back from the
nodes' maps, and fails in a mode that leaves Services to kube-proxy.`,
		example: "  lab service list\n  lab service list --node worker --service default/demo",
		ask:     []string{"service", "list"}, table: show.Services, filters: []string{"service", "frontend"},
	}.command())
}

func newBPFCmd() *cobra.Command {
	return parent("bpf", "What is in the BPF maps of the nodes",
		parent("lb", "Frontends and their backends", listing[api.Frontend]{
			short: "List the frontends and, a line each, their backends",
			long: `list shows the frontends in each node's map lab_services and, a line each, the backends of their
lists in lab_slots. FROM says who meets an entry: pods and processes of the node (inside),
what comes in at a network card (outside), or both.`,
			example: "  lab bpf lb list --node worker\n  lab bpf lb list --service default/demo",
			ask:     []string{"bpf", "lb", "list"}, table: show.Frontends, filters: []string{"service", "frontend"},
		}.command()),
		parent("ct", "Translated flows, as they are opened", listing[api.Flow]{
			short: "List translated flows, as they are opened",
			long: `list shows the flows in each node's map lab_ct: what is sent, and what it goes on as. Flows that
were translated at a socket are not here: their packets need no translation.`,
			example: "  lab bpf ct list --node worker\n  lab bpf ct list --address 10.0.1.7 -o json",
			ask:     []string{"bpf", "ct", "list"}, table: show.Flows, filters: []string{"service", "address"},
		}.command()),
		parent("nat", "Translated flows, as their answers come", listing[api.Flow]{
			short:   "List translated flows, as their answers come",
			long:    `list shows the flows in each node's map lab_nat: what answers, and what the client sees as its answer.`,
			example: "  lab bpf nat list --node worker",
			ask:     []string{"bpf", "nat", "list"}, table: show.Translations, filters: []string{"service", "address"},
		}.command()),
		parent("endpoint", "Pods of the nodes, as packets find them", listing[api.Endpoint]{
			short:   "List the map of endpoints: address, number, device and MACs",
			long:    `list shows each node's map lab_endpoints, by which packets find the pods of the node.`,
			example: "  lab bpf endpoint list\n  lab bpf endpoint list --node worker --name kubeproxy",
			ask:     []string{"bpf", "endpoint", "list"}, table: show.Endpoints,
		}.command()),
	)
}

// parent is a command that only has others below it.
func parent(use, short string, below ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: usageArgs(knownCommand),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Example: below[0].Example,
	}
	cmd.AddCommand(below...)
	return cmd
}

func (l listing[T]) command() *cobra.Command {
	var lab, node string
	out := newFormat("text", "json")
	cmd := &cobra.Command{
		Use: "list", Short: l.short, Long: l.long, Example: l.example,
		Args: usageArgs(cobra.NoArgs), ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.StringVar(&lab, "name", "", "the lab (default: the only one)")
	f.StringVar(&node, "node", "", "only this node, by its full name or what follows the lab's")
	must(cmd.RegisterFlagCompletionFunc("name", completeLabs))
	must(cmd.RegisterFlagCompletionFunc("node", completeNodes))
	out.flag(cmd)
	picked := filterFlags(cmd, l.filters)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		args, err := picked()
		if err != nil {
			return usageError{err}
		}
		opened, err := labs.Open(cmd.Context(), lab)
		if err != nil {
			return err
		}
		defer opened.Close()
		answers, failed := labs.AskAgents[T](cmd.Context(), opened, node, slices.Concat(l.ask, args)...)
		if len(answers) == 0 && failed != nil {
			return failed
		}
		err = out.print(cmd.OutOrStdout(), answers, func() string { return onNodes(opened.Name, answers, l.table).String() })
		return errors.Join(err, failed)
	}
	return cmd
}

// onNodes is one table of all nodes, whose names leave the lab's out.
func onNodes[T any](lab string, answers []labs.OnNode[T], table func([]T) show.Table) show.Table {
	all := []show.Table{table(nil).On("")}
	for _, a := range answers {
		all = append(all, table(a.Entries).On(strings.TrimPrefix(a.Node, lab+"-")))
	}
	return show.Join(all...)
}

// filterFlags adds flags that the agent's own commands have too. What it returns checks their values and says them again.
func filterFlags(cmd *cobra.Command, names []string) func() ([]string, error) {
	for _, name := range names {
		cmd.Flags().String(name, "", show.FilterUsage(name))
		complete := cobra.NoFileCompletions
		if name == "service" {
			complete = completeServices
		}
		must(cmd.RegisterFlagCompletionFunc(name, complete))
	}
	return func() (args []string, err error) {
		var f show.Filter
		for _, name := range names {
			value, err := cmd.Flags().GetString(name)
			if err != nil {
				return nil, err
			}
			if value == "" {
				continue
			}
			if err := f.Set(name, value); err != nil {
				return nil, err
			}
			args = append(args, "--"+name, value)
		}
		return args, nil
	}
}

// completeServices completes with the Services of the lab that --name says.
func completeServices(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return completeFromLab(cmd, func(ctx context.Context, l *labs.Lab) ([]string, error) { return l.Services(ctx) })
}
