package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/labs"
)

func newStatusCmd() *cobra.Command {
	out := newFormat("text", "json")
	var verbose bool
	cmd := &cobra.Command{
		Use:   "status [LAB]",
		Short: "Show how a lab is, node by node",
		Long: `status asks the cluster and the agent on each node how they are now. It exits with 1 when
the lab is not ready. Without LAB it shows the only one there is.`,
		Example:           "  lab status\n  lab status kubeproxy --verbose\n  lab status kubeproxy -o json",
		Args:              usageArgs(oneOf("lab")),
		ValidArgsFunction: completeLabs,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := labs.Open(cmd.Context(), first(args))
			if err != nil {
				return err
			}
			defer l.Close()
			s, err := l.Status(cmd.Context())
			if err != nil {
				return err
			}
			if err := out.print(cmd.OutOrStdout(), s, func() string { return statusText(s, verbose) }); err != nil {
				return err
			}
			if !s.Ready {
				return failedError{fmt.Errorf("lab %s is not ready: %s: %s", s.Lab, s.Problems[0].Want, s.Problems[0].Why)}
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show programs, maps, routes and control loops of every node")
	out.flag(cmd)
	return cmd
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func statusText(s *labs.Status, verbose bool) string {
	var b strings.Builder
	ready := "ready"
	if !s.Ready {
		ready = "NOT READY"
	}
	b.WriteString(columns(
		fmt.Sprintf("Lab:\t%s (%s)", s.Lab, ready),
		fmt.Sprintf("Profile:\t%s (mode %s)", s.Profile, s.Mode),
		"Kubernetes:\t"+s.Kubernetes+", context "+s.Context,
		fmt.Sprintf("Nodes:\t%d/%d ready", s.Sum.NodesReady, s.Sum.Nodes),
		fmt.Sprintf("Agents:\t%d/%d ready", s.Sum.AgentsReady, s.Sum.Nodes),
		fmt.Sprintf("Controllers:\t%d/%d healthy", s.Sum.ControllersOK, s.Sum.Controllers),
		fmt.Sprintf("Endpoints:\t%d", s.Sum.Endpoints),
		fmt.Sprintf("IPAM:\t%d of %d addresses used", s.Sum.AddressesUsed, s.Sum.AddressesTotal),
	))
	for _, p := range s.Problems {
		fmt.Fprintf(&b, "Problem: %s: %s\n", p.Want, p.Why)
	}
	b.WriteString("\n" + nodesText(s.Nodes))
	if verbose {
		for _, n := range s.Nodes {
			b.WriteString("\n" + nodeText(n))
		}
	}
	return b.String()
}

func nodesText(nodes []labs.NodeStatus) string {
	rows := []string{"NODE\tROLE\tREADY\tADDRESS\tPODS' RANGE\tAGENT\tROUTING\tMASQUERADING\tENDPOINTS"}
	for _, n := range nodes {
		agent, routing, masq, eps := "-", "-", "-", "-"
		if a := n.Agent; a != nil {
			agent = "ready"
			if !a.Ready {
				agent = "not ready: " + strings.Join(a.NotReady, "; ")
			}
			eps = fmt.Sprint(a.Endpoints)
			if d := a.Datapath; d != nil {
				routing, masq = routingText(d.Routing), masqueradingText(d.Masquerading)
			}
		}
		if n.AgentError != "" {
			agent = n.AgentError
		}
		rows = append(rows, strings.Join([]string{n.Name, n.Role, yesNo(n.Ready), n.IP, n.PodCIDR, agent, routing, masq, eps}, "\t"))
	}
	return columns(rows...)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func routingText(r api.Routing) string { return fmt.Sprintf("%s, host: %s", r.Network, r.Host) }

func masqueradingText(m api.Masquerading) string {
	if !m.Enabled {
		return "off"
	}
	s := m.Kind
	if m.Backend != "" {
		s += " (" + m.Backend + ")"
	}
	return s
}

func nodeText(n labs.NodeStatus) string {
	a := n.Agent
	if a == nil {
		return n.Name + ": no agent\n"
	}
	rows := []string{n.Name + ":", "  agent\t" + a.Version}
	for _, w := range a.Warnings {
		rows = append(rows, "  warning\t"+w)
	}
	if d := a.Datapath; d != nil {
		rows = append(rows, fmt.Sprintf("  datapath\tmode %s, attached by %s, MTU %d, router %s", d.Mode, d.AttachMode, d.MTU, d.Router))
		for _, dev := range d.Devices {
			rows = append(rows, fmt.Sprintf("  device\t%s, index %d, MTU %d", dev.Name, dev.Index, dev.MTU))
		}
		for _, p := range d.Programs {
			rows = append(rows, fmt.Sprintf("  program\t%s, id %d, on %s", p.Name, p.ID, strings.Join(p.AttachedTo, " ")))
		}
		for _, m := range d.Maps {
			rows = append(rows, fmt.Sprintf("  map\t%s, %d of %d entries, %d KiB", m.Name, m.Entries, m.MaxEntries, m.MemoryBytes>>10))
		}
		for _, r := range d.Routing.Routes {
			rows = append(rows, fmt.Sprintf("  route\t%s via %s dev %s", r.PodCIDR, r.Via, r.Device))
		}
	}
	for _, r := range a.Reconcilers {
		state := "healthy"
		if !r.Healthy {
			state = "failing: " + r.LastError
		}
		rows = append(rows, fmt.Sprintf("  controller\t%s, %s, %d runs", r.Name, state, r.Runs))
	}
	return columns(rows...)
}
