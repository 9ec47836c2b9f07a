package show

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

// Details are what --verbose adds to a node's status. Blocks that would be
// empty are left out.
func Details(s api.Status, now time.Time) []Block {
	blocks := []Block{knownBlock(s), blockOf("Reconcilers", s.Reconcilers, func(r api.Reconciler) (name, value string) {
		return r.Name, reconcilerText(r, now)
	})}
	if h := s.ClusterHealth; h != nil { // the way to each node of every probe
		blocks = append(blocks, blockOf("Cluster Health", h.Nodes, func(n api.NodeHealth) (name, value string) {
			return n.Name, nodeHealthText(n, now)
		}))
	}
	if d := s.Datapath; d != nil {
		if d.Services != nil {
			blocks = append(blocks, servicesBlock(d))
		}
		blocks = append(blocks,
			blockOf("Devices", d.Devices, func(x api.Device) (name, value string) {
				state := joined(" ", either(x.Up, "up", "down"), prefixes(x.Addrs))
				return x.Name, fmt.Sprintf("index %d, MTU %d, %s", x.Index, x.MTU, state)
			}),
			blockOf("Node routes", d.Routing.Routes, func(x api.NodeRoute) (name, value string) {
				return x.PodCIDR.String(), fmt.Sprintf("via %s dev %s", x.Via, x.Device)
			}),
			blockOf("Programs", d.Programs, func(x api.Program) (name, value string) {
				return x.Name, fmt.Sprintf("id %d, tag %s, %s of %s", x.ID, x.Tag, x.Hook, strings.Join(x.AttachedTo, " "))
			}),
			blockOf("Maps", d.Maps, func(x api.Map) (name, value string) {
				entries := either(x.Entries >= 0, fmt.Sprint(x.Entries), "-")
				return x.Name, fmt.Sprintf("id %d, %s of %d entries, %d KiB", x.ID, entries, x.MaxEntries, x.MemoryBytes>>10)
			}),
			blockOf("Sysctls", d.Sysctls, func(x api.Sysctl) (name, value string) {
				return x.Name, x.Value + either(x.Found != "" && x.Found != x.Value, " (was "+x.Found+")", "")
			}))
	}
	return slices.DeleteFunc(blocks, func(b Block) bool { return len(b.Lines) == 0 })
}

// blockOf is a block with a line for each of all.
func blockOf[T any](title string, all []T, line func(T) (name, value string)) Block {
	b := Block{Title: title}
	for _, x := range all {
		name, value := line(x)
		b.Add(name, "%s", value)
	}
	return b
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
