package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/show"
)

// listing is a command that lists one thing the agent reads back.
type listing[T any] struct {
	short, long, example string
	ask                  func(*client.Client, context.Context) ([]T, error)
	pick                 func(show.Filter, []T) []T
	table                func([]T) show.Table
	filters              []string // names of flags that pick
}

func (l listing[T]) command() *cobra.Command {
	q := &question{}
	cmd := &cobra.Command{
		Use: "list", Short: l.short, Long: l.long, Example: l.example,
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
	}
	picked := filterFlags(cmd, q, l.filters)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		filter, err := picked()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		items, err := l.ask(q.client(), ctx)
		if err != nil {
			return err
		}
		if l.pick != nil {
			items = l.pick(filter, items)
		}
		return q.print(cmd.OutOrStdout(), items, func(w io.Writer) { fmt.Fprint(w, l.table(items)) })
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
