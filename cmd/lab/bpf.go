package main

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/show"
	"wirelab.dev/wirelab/labs"
)

func newBPFCmd() *cobra.Command {
	return parent("bpf", "What is in the BPF maps of the nodes",
		listCmd(show.FrontendList()), listCmd(show.FlowList()), listCmd(show.TranslationList()), listCmd(show.EndpointList()),
		listCmd(show.IPCacheList()), listCmd(show.TunnelList()))
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

// ask asks the agents for a list. The error beside answers says which nodes gave none.
func ask[T any](cmd *cobra.Command, w whose, args ...string) (lab string, answers []labs.OnNode[T], err error) {
	err = w.open(cmd, func(l *labs.Lab) (err error) {
		lab = l.Name
		answers, err = labs.AskAgents[T](cmd.Context(), l, w.node, args...)
		return err
	})
	return lab, answers, err
}

// listCmd lists one thing as the agents on all nodes have it, below a command for all that is done with it.
func listCmd[T any](l show.List[T]) *cobra.Command {
	var of whose
	out := newFormat("text", "json")
	words := l.Args()
	cmd := &cobra.Command{
		Use: words[len(words)-1] + " [LAB]", Short: l.Short, Long: l.Long, Example: l.Example("lab", "--node worker"),
	}
	of.argument(cmd)
	out.flag(cmd)
	picked := filterFlags(cmd, l.Filters)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		args, err := picked()
		if err != nil {
			return usageError{err}
		}
		lab, answers, failed := ask[T](cmd, of, slices.Concat(words, args)...)
		if len(answers) == 0 && failed != nil {
			return failed
		}
		err = out.print(cmd.OutOrStdout(), answers, func() string { return listedText(l, lab, answers) })
		return errors.Join(err, failed)
	}
	if len(words) == 1 {
		return cmd
	}
	below := []*cobra.Command{cmd}
	if l.Get != nil {
		below = append(below, getCmd(l))
	}
	return parent(words[len(words)-2], l.About, below...)
}

func listedText[T any](l show.List[T], lab string, answers []labs.OnNode[T]) string {
	if l.Across == nil {
		return onNodes(lab, answers, l.Table).String()
	}
	return l.Table(listedOnce(l, lab, answers)).String()
}

// listedOnce is what nodes list alike, each thing once.
func listedOnce[T any](l show.List[T], lab string, answers []labs.OnNode[T]) (all []T) {
	for _, a := range answers {
		all = l.Across(all, strings.TrimPrefix(a.Node, lab+"-"), a.Entries)
	}
	return all
}

// getCmd shows one thing of a list, on the nodes that have it.
func getCmd[T any](l show.List[T]) *cobra.Command {
	var of whose
	out := newFormat("text", "json")
	cmd := &cobra.Command{
		Use: "get " + strings.ToUpper(l.Get.What), Short: l.Get.Short, Example: "  lab " + l.Get.Example,
		Args: usageArgs(given("which "+l.Get.What, cobra.ExactArgs(1))),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return completeFromAgents(cmd, nil, l.Args(), l.Get.AllNames)
		},
	}
	of.flags(cmd)
	out.flag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		lab, answers, failed := ask[T](cmd, of, l.Args()...)
		found := answers[:0]
		for _, a := range answers {
			if entries, err := l.Get.Find(a.Entries, args[0]); err == nil {
				found = append(found, labs.OnNode[T]{Node: a.Node, Entries: entries})
			}
		}
		if len(found) == 0 {
			_, none := l.Get.Find(nil, args[0])
			return errors.Join(failed, none)
		}
		err := out.print(cmd.OutOrStdout(), found, func() string { return getText(l, lab, found) })
		return errors.Join(err, failed)
	}
	return cmd
}

// getText is a block for each thing, under its node's name where nodes have things of their own.
func getText[T any](l show.List[T], lab string, found []labs.OnNode[T]) string {
	var blocks []string
	describe := func(node string, entries []T) {
		for _, e := range entries {
			b := l.Get.Describe(e)
			if node != "" {
				b.Lines = append([][2]string{{"Node", node}}, b.Lines...)
			}
			blocks = append(blocks, b.String())
		}
	}
	if l.Across != nil {
		describe("", listedOnce(l, lab, found))
		return strings.Join(blocks, "\n")
	}
	for _, a := range found {
		describe(strings.TrimPrefix(a.Node, lab+"-"), a.Entries)
	}
	return strings.Join(blocks, "\n")
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
	values := make([]string, len(names))
	for i, name := range names {
		cmd.Flags().StringVar(&values[i], name, "", show.FilterUsage(name))
		complete := cobra.NoFileCompletions
		switch name {
		case "service":
			complete = completeServices
		case "identity":
			complete = completeIdentities
		}
		must(cmd.RegisterFlagCompletionFunc(name, complete))
	}
	return func() (args []string, err error) {
		var f show.Filter
		for i, name := range names {
			if values[i] == "" {
				continue
			}
			if err := f.Set(name, values[i]); err != nil {
				return nil, err
			}
			args = append(args, "--"+name, values[i])
		}
		return args, nil
	}
}

// completeServices completes with the Services of the lab that was named.
func completeServices(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return completeFromLab(cmd, args, func(ctx context.Context, l *labs.Lab) ([]string, error) { return l.Services(ctx) })
}

// completeIdentities completes with the numbers that the agents of the lab know.
func completeIdentities(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return completeFromAgents(cmd, args, show.IdentityList().Args(), func(all []api.Identity) (numbers []string) {
		for _, i := range all {
			numbers = append(numbers, strconv.FormatUint(uint64(i.ID), 10))
		}
		return numbers
	})
}

// completeFromAgents completes with names of what the agents list.
func completeFromAgents[T any](cmd *cobra.Command, args, list []string, names func([]T) []string) ([]string, cobra.ShellCompDirective) {
	return completeFromLab(cmd, args, func(ctx context.Context, l *labs.Lab) (found []string, err error) {
		answers, err := labs.AskAgents[T](ctx, l, "", list...)
		for _, a := range answers {
			found = append(found, names(a.Entries)...)
		}
		slices.Sort(found)
		return slices.Compact(found), err
	})
}
