package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/show"
	"wirelab.dev/wirelab/labs"
)

func newServiceCmd() *cobra.Command { return listCmd(show.ServiceList()) }

func newBPFCmd() *cobra.Command {
	return parent("bpf", "What is in the BPF maps of the nodes",
		listCmd(show.FrontendList()), listCmd(show.FlowList()), listCmd(show.TranslationList()), listCmd(show.EndpointList()),
		listCmd(show.IPCacheList()))
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

// listCmd lists one thing as the agents on all nodes have it, below a command for all that is done with it.
func listCmd[T any](l show.List[T]) *cobra.Command {
	var lab, node string
	out := newFormat("text", "json")
	words := l.Args()
	cmd := &cobra.Command{
		Use: words[len(words)-1], Short: l.Short, Long: l.Long, Example: l.Example("lab", "--node worker"),
		Args: usageArgs(cobra.NoArgs), ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.StringVar(&lab, "name", "", "the lab (default: the only one)")
	f.StringVar(&node, "node", "", "only this node, by its full name or what follows the lab's")
	must(cmd.RegisterFlagCompletionFunc("name", completeLabs))
	must(cmd.RegisterFlagCompletionFunc("node", completeNodes))
	out.flag(cmd)
	picked := filterFlags(cmd, l.Filters)
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
		answers, failed := labs.AskAgents[T](cmd.Context(), opened, node, slices.Concat(words, args)...)
		if len(answers) == 0 && failed != nil {
			return failed
		}
		err = out.print(cmd.OutOrStdout(), answers, func() string { return onNodes(opened.Name, answers, l.Table).String() })
		return errors.Join(err, failed)
	}
	return parent(words[len(words)-2], l.About, cmd)
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
