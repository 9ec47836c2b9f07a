package main

import (
	"encoding/json"
	"fmt"
	"io"
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
