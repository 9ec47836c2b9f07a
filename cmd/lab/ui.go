package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/ui"
	"wirelab.dev/wirelab/labs"
	"wirelab.dev/wirelab/labs/passport"
	"wirelab.dev/wirelab/labs/passport/draw"
)

func newUICmd() *cobra.Command {
	var of labName
	var listen string
	cmd := &cobra.Command{
		Use:   "ui [LAB]",
		Short: "Show on a page who talks with whom, and what is dropped",
		Long: `ui serves a page that shows who talks with whom in a lab, until it is interrupted: a map of
workloads, where what is dropped is red, and a table of flows. From an arrow a packet is sent,
as by lab explain, and its way drawn.

It prints the page's URL, which has a token in it: who has it, on this machine, sees the
lab's flows. The page comes out of lab itself and loads nothing from elsewhere.`,
		Example: `  lab ui
  lab ui kubeproxy --listen 127.0.0.1:8080`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := parseListen(listen, "127.0.0.1:8080")
			if err != nil {
				return err
			}
			if !at.Addr().IsLoopback() {
				return usageError{fmt.Errorf("listen at %s: the page is for this machine alone, so only an address as 127.0.0.1 will do", listen)}
			}
			return of.open(cmd, func(l *labs.Lab) error { return serveUI(cmd, l, at) })
		},
	}
	of.argument(cmd)
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "the address and port of this machine to serve at; port 0 takes one that is free")
	must(cmd.RegisterFlagCompletionFunc("listen", cobra.NoFileCompletions))
	return cmd
}

func serveUI(cmd *cobra.Command, l *labs.Lab, at netip.AddrPort) error {
	listener, err := listenAt(cmd.Context(), at)
	if err != nil {
		return err
	}
	page := ui.New(listener, shownOf(l))
	progressLine(cmd.ErrOrStderr(), "serving the page of lab %s until interrupted, at", l.Name)
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), page.URL()); err != nil {
		return errors.Join(err, listener.Close())
	}
	return page.Serve(cmd.Context())
}

// shownOf is what the page shows of a lab.
func shownOf(l *labs.Lab) ui.Lab {
	shown := ui.Lab{Name: l.Name, Flows: l.FollowFlows}
	for _, n := range l.Nodes {
		shown.Nodes = append(shown.Nodes, n.Name)
	}
	shown.Explain = func(ctx context.Context, from, to, protocol string) ([]byte, error) {
		if !slices.Contains(protocols(), protocol) {
			return nil, fmt.Errorf("no packet of %q can be sent: there are %s", protocol, strings.Join(protocols(), ", "))
		}
		seen, err := l.Explain(ctx, labs.ExplainOptions{From: from, To: to, Protocol: protocol})
		if err != nil {
			return nil, err
		}
		return draw.Passport(passport.Make(seen)), nil
	}
	shown.Services = func(ctx context.Context) (map[netip.Addr]ui.Service, error) {
		services, err := l.ServicesByAddress(ctx)
		out := map[netip.Addr]ui.Service{}
		for addr, name := range services {
			out[addr] = ui.Service{Namespace: name.Namespace, Name: name.Name}
		}
		return out, err
	}
	shown.Datapaths = func(ctx context.Context) (out []ui.NodeDatapath, err error) {
		status, err := l.Status(ctx)
		if err != nil {
			return nil, err
		}
		for _, n := range status.Nodes {
			out = append(out, ui.NodeDatapath{Node: n.Name, Status: n.Agent, Away: cmp.Or(n.AgentError, n.Down)})
		}
		return out, nil
	}
	return shown
}
