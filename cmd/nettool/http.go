package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/cmd/nettool/internal/prober"
	"wirelab.dev/wirelab/verify/probe"
)

// newHTTPCmd is the one kind of probe with a command of its own: it runs at a rate, for as long as somebody wants to know
// whether requests are lost. All others are asked for by `nettool probe batch`.
func newHTTPCmd() *cobra.Command {
	spec := probe.HTTP{}
	var source string
	var each, all time.Duration
	cmd := &cobra.Command{
		Use:   "http URL",
		Short: "GET a nettool server, once or at a rate, and print what came back as a line of JSON",
		Long: `GET a nettool server, once or at a rate, and print what came back as a line of
JSON. A reply with "error" says that the probe could not be sent, one with
"failure" what the network did wrong; both end with status 1.`,
		Args: args(cobra.ExactArgs(1)),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		spec.URL, spec.RequestTimeout = args[0], probe.Duration(each)
		if !strings.Contains(spec.URL, "://") {
			spec.URL = "http://" + spec.URL
		}
		if source != "" {
			if spec.Source, err = netip.ParseAddr(source); err != nil {
				return usageError{fmt.Errorf("read --source: %w", err)}
			}
		}
		if !cmd.Flags().Changed("timeout") {
			// Long enough for every request to use up its own time.
			all = time.Duration(spec.Count) * each
			if spec.Rate > 0 {
				// Twice what it takes: requests start late on a busy machine, never in a burst.
				all = time.Duration(2*float64(spec.Count)/spec.Rate*float64(time.Second)) + each
			}
		}
		return runProbe(cmd, probe.Request{Timeout: probe.Duration(all), HTTP: &spec})
	}
	cmd.Flags().IntVar(&spec.Count, "count", 1, "how many requests")
	cmd.Flags().Float64Var(&spec.Rate, "rate", 0, "requests to start in a second at most; 0: one after another")
	cmd.Flags().BoolVar(&spec.KeepAlive, "keepalive", false, "reuse connections")
	cmd.Flags().IntVar(&spec.Connections, "connections", 0, "take turns on so many lasting connections, and count those that are lost")
	cmd.Flags().StringVar(&source, "source", "", "local address to send from")
	cmd.Flags().StringVar(&spec.Interface, "interface", "", "device to send from")
	cmd.Flags().DurationVar(&each, "request-timeout", probe.DefaultTimeout, "how long one request may take")
	cmd.Flags().DurationVar(&all, "timeout", 0, "how long the whole probe may take; 0: as long as its requests may take together")
	return cmd
}

func runProbe(cmd *cobra.Command, request probe.Request) error {
	p := prober.Prober{Identity: localIdentity()}
	reply := p.Run(cmd.Context(), request, func(probe.Reply) {})
	encoder := json.NewEncoder(cmd.OutOrStdout())
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(reply); err != nil {
		return fmt.Errorf("print the reply: %w", err)
	}
	if reply.Error != "" || reply.Failure != "" {
		return errProbe
	}
	return nil
}
