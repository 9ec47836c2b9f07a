package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/api"
)

func newStatusCmd() *cobra.Command {
	q := &question{}
	var verbose bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how this node's network is; fails when pods on it do not work",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
			defer cancel()
			s, err := q.client().Status(ctx)
			if err != nil {
				return err
			}
			if err := q.print(cmd.OutOrStdout(), s, func(w io.Writer) { writeStatus(w, s, verbose) }); err != nil {
				return err
			}
			if !s.Ready {
				return errors.New("the node is not ready: " + strings.Join(s.NotReady, "; "))
			}
			return nil
		},
	}
	q.flags(cmd)
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "with devices, routes, programs, maps and sysctls")
	return cmd
}

// writeStatus writes s as lines of key and value, for a tabwriter.
func writeStatus(w io.Writer, s api.Status, verbose bool) {
	line := func(key, format string, args ...any) {
		fmt.Fprintf(w, "%s:\t%s\n", key, fmt.Sprintf(format, args...))
	}
	line("Node", "%s", s.Node)
	if s.Cluster != "" {
		line("Cluster", "%s", s.Cluster)
	}
	line("Version", "%s, up %s", s.Version, time.Since(s.Started).Round(time.Second))
	line("Ready", "%s", readyText(s))
	line("Kubernetes", "%s", kubernetesText(s.Kubernetes))
	if s.Datapath != nil {
		writeDatapath(line, s.Datapath)
	}
	if s.IPAM != nil {
		line("IPAM", "%d/%d allocated from %s (%s)", s.IPAM.Used, s.IPAM.Capacity, s.IPAM.CIDR, s.IPAM.Mode)
	}
	line("Endpoints", "%d", s.Endpoints)
	line("CNI", "%s, %s", either(s.CNI.Serving, "serving", "not serving"), either(s.CNI.Written, s.CNI.Config, "no configuration written"))
	writeReconcilers(w, line, s.Reconcilers)
	for _, warning := range s.Warnings {
		line("Warning", "%s", warning)
	}
	if verbose && s.Datapath != nil {
		writeDetails(w, s.Datapath)
	}
}

func writeDatapath(line func(key, format string, args ...any), d *api.Datapath) {
	line("Datapath", "%s, attached by %s, MTU %d", d.Mode, d.AttachMode, d.MTU)
	line("Node IP", "%s", d.NodeIP)
	line("Router", "%s", d.Router)
	line("Routing", "%s, %s to other nodes", d.Routing.Network, plural(len(d.Routing.Routes), "route"))
	line("Host Routing", "%s", withReason(d.Routing.Host, d.Routing.Reason))
	line("Masquerading", "%s", masqueradeText(d.Masquerading))
	line("Host Ports", "%d", d.HostPorts)
	line("Monitor", "aggregation %s", d.MonitorAggregation)
	if d.Error != "" {
		line("Unreadable", "%s", strings.ReplaceAll(d.Error, "\n", "; "))
	}
}

func writeReconcilers(w io.Writer, line func(key, format string, args ...any), rs []api.Reconciler) {
	healthy := 0
	for _, r := range rs {
		if r.Healthy {
			healthy++
		}
	}
	line("Reconcilers", "%d/%d healthy", healthy, len(rs))
	for _, r := range rs {
		fmt.Fprintf(w, "  %s\t%s\n", r.Name, reconcilerText(r))
	}
}

func reconcilerText(r api.Reconciler) string {
	switch {
	case r.ConsecutiveFailures > 0:
		return fmt.Sprintf("failed %s, last %s ago: %s", times(r.ConsecutiveFailures), since(r.LastErrorAt), r.LastError)
	case !r.Healthy:
		return "has not run yet"
	case r.LastError != "":
		return fmt.Sprintf("ok, %s ago (failed %s ago: %s)", since(r.LastSuccess), since(r.LastErrorAt), r.LastError)
	}
	return fmt.Sprintf("ok, %s ago", since(r.LastSuccess))
}

func writeDetails(w io.Writer, d *api.Datapath) {
	fmt.Fprintln(w, "Devices:")
	for _, x := range d.Devices {
		fmt.Fprintf(w, "  %s\tindex %d, MTU %d, %s %v\n", x.Name, x.Index, x.MTU, either(x.Up, "up", "down"), x.Addrs)
	}
	fmt.Fprintln(w, "Node routes:")
	for _, x := range d.Routing.Routes {
		fmt.Fprintf(w, "  %s\tvia %s dev %s\n", x.PodCIDR, x.Via, x.Device)
	}
	fmt.Fprintln(w, "Programs:")
	for _, x := range d.Programs {
		fmt.Fprintf(w, "  %s\tid %d, tag %s, on %s\n", x.Name, x.ID, x.Tag, strings.Join(x.AttachedTo, " "))
	}
	fmt.Fprintln(w, "Maps:")
	for _, x := range d.Maps {
		entries := "-"
		if x.Entries >= 0 {
			entries = fmt.Sprint(x.Entries)
		}
		fmt.Fprintf(w, "  %s\tid %d, %s of %d entries, %d KiB\n", x.Name, x.ID, entries, x.MaxEntries, x.MemoryBytes>>10)
	}
	fmt.Fprintln(w, "Sysctls:")
	for _, x := range d.Sysctls {
		was := ""
		if x.Found != "" && x.Found != x.Value {
			was = " (was " + x.Found + ")"
		}
		fmt.Fprintf(w, "  %s\t%s%s\n", x.Name, x.Value, was)
	}
}

func readyText(s api.Status) string {
	if s.Ready {
		return "yes"
	}
	return "no: " + strings.Join(s.NotReady, "; ")
}

func kubernetesText(k api.Kubernetes) string {
	if !k.Reachable {
		return fmt.Sprintf("unreachable at %s: %s", k.Server, k.Error)
	}
	return fmt.Sprintf("%s at %s, %s", k.Version, k.Server, plural(k.Nodes, "node"))
}

func masqueradeText(m api.Masquerading) string {
	if !m.Enabled {
		return "Disabled"
	}
	return fmt.Sprintf("%s (%s), outside %s", m.Kind, m.Backend, m.NativeCIDR)
}

func withReason(text, reason string) string {
	if reason == "" {
		return text
	}
	return text + " (" + reason + ")"
}

func either(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times in a row", n)
}

func since(t time.Time) string { return time.Since(t).Round(time.Second).String() }
