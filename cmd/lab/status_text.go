package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/screen"
	"wirelab.dev/wirelab/internal/show"
	"wirelab.dev/wirelab/labs"
)

func statusText(s *labs.Status, verbose bool) string {
	var b strings.Builder
	b.WriteString(summary(s).String())
	for _, p := range problems(s) {
		b.WriteString(screen.Paragraph("Problem: "+p, "  "))
	}
	for _, text := range leftOut(s) {
		b.WriteString(screen.Paragraph("Left out: "+text, "  "))
	}
	b.WriteString("\n" + nodesTable(s).String())
	if verbose {
		for _, n := range s.Nodes {
			b.WriteString("\n" + nodeText(n))
		}
	}
	return b.String()
}

// summary is what holds for the whole lab, and where nodes differ which they are.
func summary(s *labs.Status) show.Block {
	sum := s.Sum
	ready := "ready"
	if !s.Ready {
		ready = "NOT READY"
	}
	version := across(s, func(a *api.Status) string { return a.Version })
	mode := across(s, ipamMode)
	var b show.Block
	b.Add("Lab", "%s (%s)", s.Lab, ready)
	b.Add("Profile", "%s (mode %s)", s.Profile, s.Mode)
	b.Add("Kubernetes", "%s, reachable from %d/%d nodes, context %s%s", s.Kubernetes, sum.AgentsToKubernetes, sum.Nodes,
		s.Context, show.Prefixed(" in ", s.Kubeconfig))
	b.Add("Nodes", "%d/%d ready%s", sum.NodesReady, sum.Nodes, cordonedText(s))
	b.Add("Agents", "%d/%d ready%s", sum.AgentsReady, sum.Nodes, show.Prefixed(", version ", version))
	known := func(key, text string) {
		if text != "" {
			b.Add(key, "%s", text)
		}
	}
	datapath := func(key string, say func(*api.Datapath) string) {
		known(key, across(s, func(a *api.Status) string {
			if a.Datapath == nil {
				return ""
			}
			return say(a.Datapath)
		}))
	}
	datapath("KubeProxyReplacement", replacement)
	datapath("Attach Mode", func(d *api.Datapath) string { return d.AttachMode })
	datapath("Routing", func(d *api.Datapath) string { return show.Network(d.Routing) })
	datapath("Host Routing", func(d *api.Datapath) string { return show.HostRouting(d.Routing) })
	datapath("Masquerading", func(d *api.Datapath) string { return show.Masquerading(d.Masquerading) })
	known("Services", servicesText(s))
	if n := sum.NetworkPolicies; n != nil {
		b.Add("NetworkPolicies", "%s", show.NetworkPolicies(*n))
	}
	b.Add("IPAM", "%d/%d addresses used%s", sum.AddressesUsed, sum.AddressesTotal, show.Prefixed(", mode ", mode))
	b.Add("Endpoints", "%d", sum.Endpoints)
	known("Identities", across(s, identitiesText))
	b.Add("Reconcilers", "%d/%d healthy", sum.ReconcilersOK, sum.Reconcilers)
	if sum.NodesReached >= 0 {
		text := fmt.Sprintf("%d/%d nodes reachable", sum.NodesReached, sum.Nodes)
		if sum.NodesReached < sum.Nodes {
			text += " (" + show.ByProtocol(sum.NodesByICMP, sum.NodesByTCP, sum.Nodes) + ")"
		}
		b.Add("Cluster Health", "%s", text)
	}
	return b
}

func replacement(d *api.Datapath) string {
	if d.Services == nil {
		return "False"
	}
	// The addresses are in the table.
	return "True [" + strings.Join(d.Services.Devices, ", ") + "]"
}

// servicesText is what all nodes know alike, the Services' ports, and how many backends each has of them, which differs with
// host ports and with Services that stay on a node.
func servicesText(s *labs.Status) string {
	least, most := -1, -1
	ports := across(s, func(a *api.Status) string {
		if a.Datapath == nil || a.Datapath.Services == nil {
			return ""
		}
		v := a.Datapath.Services
		if least < 0 || v.Backends < least {
			least = v.Backends
		}
		most = max(most, v.Backends)
		return fmt.Sprintf("%s, %d with session affinity", show.Plural(v.Services, "port"), v.Affinity)
	})
	if ports == "" {
		return ""
	}
	sep, backends := ", ", show.Plural(most, "backend")
	if least != most {
		backends = fmt.Sprintf("%d to %s", least, backends)
	}
	if strings.Contains(ports, ";") {
		sep = "; "
	}
	return ports + sep + backends
}

// identitiesText is how many identities a node knows; all know the same, once they have heard.
func identitiesText(a *api.Status) string {
	if a.Identities == nil {
		return ""
	}
	return fmt.Sprintf("%d known", *a.Identities)
}

func ipamMode(a *api.Status) string {
	if a.IPAM == nil {
		return ""
	}
	if len(a.IPAM.Pool) == 0 {
		return a.IPAM.Mode
	}
	return fmt.Sprintf("%s %s by /%d", a.IPAM.Mode, strings.Join(a.IPAM.Pool, " "), a.IPAM.MaskSize)
}

// across is what the agents say in one voice, or else each answer with the nodes that gave it.
func across(s *labs.Status, say func(*api.Status) string) string {
	answers, by, _ := said(s, func(a *api.Status) []string {
		if text := say(a); text != "" {
			return []string{text}
		}
		return nil
	})
	if len(answers) < 2 {
		return strings.Join(answers, "")
	}
	for i, text := range answers {
		answers[i] = strings.Join(by[text], " ") + ": " + text
	}
	return strings.Join(answers, "; ")
}

// said is what agents say, each thing once, the nodes that say it, and how many agents there are.
func said[T comparable](s *labs.Status, say func(*api.Status) []T) (all []T, by map[T][]string, agents int) {
	by = map[T][]string{}
	for _, n := range s.Nodes {
		if n.Agent == nil {
			continue
		}
		agents++
		for _, x := range say(n.Agent) {
			if by[x] == nil {
				all = append(all, x)
			}
			by[x] = append(by[x], short(s, n.Name))
		}
	}
	return all, by, agents
}

// short is a node's name without the lab's in front.
func short(s *labs.Status, node string) string { return strings.TrimPrefix(node, s.Lab+"-") }

// problems are sentences on what is not as it should be, those of the whole lab first.
func problems(s *labs.Status) []string {
	var out []string
	for _, p := range s.Problems {
		out = append(out, p.Want+": "+p.Why)
	}
	for _, n := range s.Nodes {
		if n.Agent == nil {
			continue
		}
		texts := slices.Clone(n.Agent.NotReady)
		if d := n.Agent.Datapath; d != nil && d.Error != "" {
			texts = append(texts, strings.ReplaceAll(d.Error, "\n", "; "))
		}
		for _, text := range append(texts, n.Agent.Warnings...) {
			out = append(out, "node "+short(s, n.Name)+": "+text)
		}
	}
	return out
}

// leftOut is what nodes do not carry, each thing once, with the nodes where it is not so on all of them.
func leftOut(s *labs.Status) []string {
	all, on, agents := said(s, func(a *api.Status) []api.LeftOut { return a.LeftOut })
	for i, x := range all {
		if nodes := on[x]; len(nodes) < agents {
			all[i].Message += ", on " + strings.Join(nodes, " ")
		}
	}
	return show.LeftOut(all)
}

func nodesTable(s *labs.Status) show.Table {
	t := show.Table{Head: []string{"NODE", "READY", "ADDRESS", "PODS", "IPAM", "HOST", "MASQUERADING", "RECONCILERS", "HEALTH"}}
	for _, n := range s.Nodes {
		row := []string{short(s, n.Name), nodeReady(n), n.IP, cmp.Or(n.PodCIDR, "-"), "-", "-", "-", "-", "-"}
		if a := n.Agent; a != nil {
			if a.IPAM != nil {
				row[4] = fmt.Sprintf("%d/%d", a.IPAM.Used, a.IPAM.Capacity)
			}
			if d := a.Datapath; d != nil {
				row[5], row[6] = d.Routing.Host, show.MasqueradingKind(d.Masquerading)
			}
			row[7] = show.ReconcilersHealthy(a.Reconcilers)
			if h := a.ClusterHealth; h != nil {
				row[8] = fmt.Sprintf("%d/%d", h.Reachable, len(h.Nodes))
				if h.Reachable < len(h.Nodes) {
					row[8] = show.ByProtocol(h.ICMP, h.TCP, len(h.Nodes))
				}
			}
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// cordonedText names the nodes that take no new pods.
func cordonedText(s *labs.Status) string {
	text := ""
	for _, n := range s.Nodes {
		if n.Cordoned != "" {
			text += fmt.Sprintf("; %s is %s and takes no new pods", short(s, n.Name), n.Cordoned)
		}
	}
	return text
}

// nodeReady is yes, or the first thing that is not.
func nodeReady(n labs.NodeStatus) string {
	switch {
	case n.Down != "":
		return strings.TrimPrefix(n.Down, "is ")
	case n.Agent == nil:
		return "no agent"
	case !n.Agent.Ready:
		return "agent not"
	case !n.Ready:
		return "node not"
	case n.Cordoned != "":
		return "yes, " + n.Cordoned
	}
	return "yes"
}

func nodeText(n labs.NodeStatus) string {
	var b strings.Builder
	b.WriteString(screen.Paragraph(fmt.Sprintf("== %s (%s, kubelet %s, %s)", n.Name, n.Role, n.Kubelet, n.Runtime), "   "))
	if n.Agent == nil {
		return b.String() + "no agent\n"
	}
	now := time.Now()
	b.WriteString(show.Status(*n.Agent, now).String())
	for _, block := range show.Details(*n.Agent, now) {
		b.WriteString(block.String())
	}
	return b.String()
}
