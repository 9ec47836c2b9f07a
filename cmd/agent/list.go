package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
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
	cmd := &cobra.Command{
		Use: "get " + strings.ToUpper(l.Get.What), Short: l.Get.Short, Example: "  wirelab-agent " + l.Get.Example, Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
			defer cancel()
			items, err := ask(q.client(), ctx)
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			return l.Get.AllNames(items), cobra.ShellCompDirectiveNoFileComp
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
		must(cmd.RegisterFlagCompletionFunc(name, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
			defer cancel()
			words, err := wordsFor(ctx, name, q.client())
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			return words, cobra.ShellCompDirectiveNoFileComp
		}))
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

// wordsFor is what a flag can be completed with.
func wordsFor(ctx context.Context, flag string, c *client.Client) ([]string, error) {
	switch flag {
	case "service":
		return serviceNames(ctx, c)
	case "frontend":
		return frontendAddrs(ctx, c)
	case "identity":
		return identityNumbers(ctx, c)
	}
	return nil, nil
}

func serviceNames(ctx context.Context, c *client.Client) (names []string, err error) {
	services, err := c.Services(ctx)
	for _, s := range services {
		names = append(names, s.Service)
	}
	return names, err
}

func frontendAddrs(ctx context.Context, c *client.Client) (addrs []string, err error) {
	frontends, err := c.Frontends(ctx)
	for _, f := range frontends {
		addrs = append(addrs, f.Addr.String())
	}
	return slices.Compact(addrs), err
}

func identityNumbers(ctx context.Context, c *client.Client) (numbers []string, err error) {
	all, err := c.Identities(ctx)
	for _, i := range all {
		numbers = append(numbers, strconv.FormatUint(uint64(i.ID), 10))
	}
	return numbers, err
}
