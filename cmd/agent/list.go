package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/show"
)

// listCmd lists one thing that the agent reads back, below a command for all that is done with it.
func listCmd[T any](l show.List[T], ask func(*client.Client, context.Context) ([]T, error)) *cobra.Command {
	q := &question{}
	words := l.Args()
	cmd := &cobra.Command{
		Use: words[len(words)-1], Short: l.Short, Long: l.Long, Example: l.Example("wirelab-agent", ""),
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
	}
	picked := filterFlags(cmd, q, l.Filters)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		filter, err := picked()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		items, err := ask(q.client(), ctx)
		if err != nil {
			return err
		}
		if l.Pick != nil {
			items = l.Pick(filter, items)
		}
		return q.print(cmd.OutOrStdout(), items, func(w io.Writer) { fmt.Fprint(w, l.Table(items)) })
	}
	q.flags(cmd)
	if len(words) == 1 {
		return cmd
	}
	below := []*cobra.Command{cmd}
	if l.Get != nil {
		below = append(below, getCmd(l, ask))
	}
	return group(words[len(words)-2], l.About, below...)
}

// getCmd shows one thing of a list.
func getCmd[T any](l show.List[T], ask func(*client.Client, context.Context) ([]T, error)) *cobra.Command {
	q := &question{}
	names := q.completion(func(ctx context.Context, c *client.Client) ([]string, error) {
		items, err := ask(c, ctx)
		return l.Get.AllNames(items), err
	})
	cmd := &cobra.Command{
		Use: "get " + strings.ToUpper(l.Get.What), Short: l.Get.Short, Example: "  wirelab-agent " + l.Get.Example, Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return names(cmd, args, begun)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
			defer cancel()
			items, err := ask(q.client(), ctx)
			if err != nil {
				return err
			}
			found, err := l.Get.Find(items, args[0])
			if err != nil {
				return err
			}
			return q.print(cmd.OutOrStdout(), found, func(w io.Writer) {
				for i, item := range found {
					if i > 0 {
						fmt.Fprintln(w)
					}
					fmt.Fprint(w, l.Get.Describe(item))
				}
			})
		},
	}
	q.flags(cmd)
	return cmd
}

// filterFlags adds flags that pick. What it returns reads them.
func filterFlags(cmd *cobra.Command, q *question, names []string) func() (show.Filter, error) {
	values := make([]string, len(names))
	for i, name := range names {
		cmd.Flags().StringVar(&values[i], name, "", show.FilterUsage(name))
		must(cmd.RegisterFlagCompletionFunc(name, q.completion(wordsFor(name))))
	}
	return func() (f show.Filter, err error) {
		for i, name := range names {
			if err := f.Set(name, values[i]); err != nil {
				return f, err
			}
		}
		return f, nil
	}
}
