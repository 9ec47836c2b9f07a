package show

import (
	"fmt"
	"strings"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

// Details are what --verbose adds to a node's status. Blocks that would be
// empty are left out.
func Details(s api.Status, now time.Time) []Block {
	blocks := []Block{knownBlock(s), reconcilerBlock(s.Reconcilers, now)}
	if s.ClusterHealth != nil {
		blocks = append(blocks, healthBlock(s.ClusterHealth, now))
	}
	if d := s.Datapath; d != nil {
		if d.Services != nil {
			blocks = append(blocks, servicesBlock(d))
		}
		blocks = append(blocks, deviceBlock(d), routeBlock(d), programBlock(d), mapBlock(d), sysctlBlock(d))
	}
	out := blocks[:0]
	for _, b := range blocks {
		if len(b.Lines) > 0 {
			out = append(out, b)
		}
	}
	return out
}

// notImplemented is said of what people who know other networks of this kind look for.
const notImplemented = "Disabled (not implemented)"

// knownBlock are lines that a status of this kind of network is known to have.
func knownBlock(s api.Status) Block {
	b := Block{Title: "Known"}
	b.Add("KVStore", "%s", notImplemented)
	if len(s.Kubernetes.APIs) > 0 {
		b.Add("Kubernetes APIs", "%s", strings.Join(s.Kubernetes.APIs, ", "))
	}
	b.Add("CNI Chaining", "none")
	b.Add("Flow Metrics", "%s", flowMetrics(s.Flows))
	for _, name := range []string{"Host Firewall", "SRv6", "IPv6", "BIG TCP", "BandwidthManager", "Egress Gateway", "Proxy Status", "Encryption", "Cluster Mesh"} {
		b.Add(name, "%s", notImplemented)
	}
	return b
}

func flowMetrics(f *api.FlowsKept) string {
	if f == nil || len(f.Metrics) == 0 {
		return "Disabled"
	}
	return strings.Join(f.Metrics, ", ")
}

func reconcilerBlock(rs []api.Reconciler, now time.Time) Block {
	b := Block{Title: "Reconcilers"}
	for _, r := range rs {
		b.Add(r.Name, "%s", reconcilerText(r, now))
	}
	return b
}

func reconcilerText(r api.Reconciler, now time.Time) string {
	ago := func(t time.Time) string { return Duration(now.Sub(t)) + " ago" }
	switch {
	case r.ConsecutiveFailures > 0:
		times := "once"
		if r.ConsecutiveFailures > 1 {
			times = fmt.Sprintf("%d times in a row", r.ConsecutiveFailures)
		}
		return fmt.Sprintf("failed %s, last %s: %s", times, ago(r.LastErrorAt), r.LastError)
	case !r.Healthy:
		return "has not run yet"
	case r.LastError != "":
		return fmt.Sprintf("ok, %s (failed %s: %s)", ago(r.LastSuccess), ago(r.LastErrorAt), r.LastError)
	}
	return "ok, " + ago(r.LastSuccess)
}

// healthBlock is a line for each node with the way to it of every probe.
func healthBlock(h *api.ClusterHealth, now time.Time) Block {
	b := Block{Title: "Cluster Health"}
	for _, n := range h.Nodes {
		b.Add(n.Name, "%s", nodeHealthText(n, now))
	}
	return b
}

func nodeHealthText(n api.NodeHealth, now time.Time) string {
	if n.ProbedAt.IsZero() {
		return "not probed yet"
	}
	var targets []string
	for _, target := range []string{"node", "endpoint"} {
		var ways []string
		for _, p := range n.Probes {
			if p.Target == target {
				ways = append(ways, probeText(p))
			}
		}
		if len(ways) == 0 {
			continue
		}
		addr := n.Addr
		if target == "endpoint" {
			addr = n.Endpoint
		}
		name := target
		if addr.IsValid() {
			name += " " + addr.String()
		}
		targets = append(targets, name+" "+strings.Join(ways, ", "))
	}
	text := strings.Join(targets, "; ")
	if n.Self {
		text += " (this node)"
	}
	if !n.Since.IsZero() {
		text += ", failing for " + Duration(now.Sub(n.Since))
	}
	return text
}

func probeText(p api.Probe) string {
	if p.Error != "" {
		return p.Protocol + " FAILED"
	}
	return p.Protocol + " " + latency(p.Latency)
}

// latency has three digits that count.
func latency(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%.1fms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}

func servicesBlock(d *api.Datapath) Block {
	s := d.Services
	b := Block{Title: "KubeProxyReplacement"}
	sockets := "attached nowhere"
	if len(s.Sockets) > 0 {
		sockets = fmt.Sprintf("%s, at cgroup %d", strings.Join(s.Sockets, " "), s.Cgroup)
	}
	b.Add("Socket LB", "%s", sockets)
	b.Add("Devices", "%s", strings.TrimPrefix(KubeProxyReplacement(d), "True "))
	b.Add("NodePorts", "%s", either(s.NodePorts != "", s.NodePorts+" in use", "none in use"))
	b.Add("NAT Ports", "%s, for clients outside of backends on other nodes", s.NATPorts)
	b.Add("Session Affinity", "%d of %s", s.Affinity, Plural(s.Services, "Service port"))
	b.Add("Frontends", "%s", frontendsText(s))
	b.Add("Backends", "%d", s.Backends)
	return b
}

func deviceBlock(d *api.Datapath) Block {
	b := Block{Title: "Devices"}
	for _, x := range d.Devices {
		b.Add(x.Name, "index %d, MTU %d, %s", x.Index, x.MTU, joined(" ", either(x.Up, "up", "down"), prefixes(x.Addrs)))
	}
	return b
}

func routeBlock(d *api.Datapath) Block {
	b := Block{Title: "Node routes"}
	for _, x := range d.Routing.Routes {
		b.Add(x.PodCIDR.String(), "via %s dev %s", x.Via, x.Device)
	}
	return b
}

func programBlock(d *api.Datapath) Block {
	b := Block{Title: "Programs"}
	for _, x := range d.Programs {
		b.Add(x.Name, "id %d, tag %s, %s of %s", x.ID, x.Tag, x.Hook, strings.Join(x.AttachedTo, " "))
	}
	return b
}

func mapBlock(d *api.Datapath) Block {
	b := Block{Title: "Maps"}
	for _, x := range d.Maps {
		entries := "-"
		if x.Entries >= 0 {
			entries = fmt.Sprint(x.Entries)
		}
		b.Add(x.Name, "id %d, %s of %d entries, %d KiB", x.ID, entries, x.MaxEntries, x.MemoryBytes>>10)
	}
	return b
}

func sysctlBlock(d *api.Datapath) Block {
	b := Block{Title: "Sysctls"}
	for _, x := range d.Sysctls {
		was := ""
		if x.Found != "" && x.Found != x.Value {
			was = " (was " + x.Found + ")"
		}
		b.Add(x.Name, "%s%s", x.Value, was)
	}
	return b
}
