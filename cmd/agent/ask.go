package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/api/client"
)

// askTimeout bounds one question to the agent, completeTimeout one for a shell
// that completes a line.
const (
	askTimeout      = 10 * time.Second
	completeTimeout = 3 * time.Second
)

// question is what the commands that ask a running agent share: where it
// listens and in which form its answer is printed.
type question struct {
	socket string
	output string
}

func (q *question) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&q.socket, "socket", api.AgentSocket, "the agent's socket")
	cmd.Flags().StringVarP(&q.output, "output", "o", "text", "text or json")
	must(cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp)))
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if q.output != "text" && q.output != "json" {
			return fmt.Errorf("print in form %q: use text or json", q.output)
		}
		return nil
	}
}

// must is for errors that only this program's own mistakes make.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// words are what a word of a command line can be completed with.
type words func(context.Context, *client.Client) ([]string, error)

// completion asks for words in time.
func (q *question) completion(w words) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
		defer cancel()
		found, err := w(ctx, q.client())
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// wordsFor are those for a flag that picks.
func wordsFor(flag string) words {
	switch flag {
	case "service":
		return wordsOf((*client.Client).Services, func(s api.Service) string { return s.Service })
	case "frontend":
		return wordsOf((*client.Client).Frontends, func(f api.Frontend) string { return f.Addr.String() })
	case "identity":
		return wordsOf((*client.Client).Identities, func(i api.Identity) string { return strconv.FormatUint(uint64(i.ID), 10) })
	case "pod", "from-pod", "to-pod":
		return wordsOf((*client.Client).Endpoints, func(e api.Endpoint) string { return e.Namespace + "/" + e.Pod })
	}
	fixed := map[string][]string{"verdict": api.FlowVerdicts(), "protocol": api.FlowProtocols()}[flag]
	return func(context.Context, *client.Client) ([]string, error) { return fixed, nil }
}

// wordsOf are one of each thing of a list.
func wordsOf[T any](list func(*client.Client, context.Context) ([]T, error), of func(T) string) words {
	return func(ctx context.Context, c *client.Client) (all []string, err error) {
		things, err := list(c, ctx)
		for _, t := range things {
			all = append(all, of(t))
		}
		return slices.Compact(all), err
	}
}

func (q *question) client() *client.Client { return client.New(q.socket) }

// print writes v as JSON, or as text writes it.
func (q *question) print(w io.Writer, v any, text func(io.Writer)) error {
	if q.output == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	text(tw)
	return tw.Flush()
}
