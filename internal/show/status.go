package show

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

// Block is lines of key and value under a title, aligned among themselves.
type Block struct {
	Title string // may be empty
	Lines [][2]string
}

// Add adds a line.
func (b *Block) Add(key, format string, args ...any) {
	b.Lines = append(b.Lines, [2]string{key, fmt.Sprintf(format, args...)})
}

// String ends keys with a colon, and puts lines below a title two spaces in.
func (b Block) String() string {
	var t Table
	indent := ""
	var out strings.Builder
	if b.Title != "" {
		indent = "  "
		out.WriteString(b.Title + ":\n")
	}
	for _, l := range b.Lines {
		t.Rows = append(t.Rows, []string{indent + l[0] + ":", l[1]})
	}
	return out.String() + t.String()
}

// Status is the state of one node in a screen of lines. now is the time to
// count from.
func Status(s api.Status, now time.Time) Block {
	var b Block
	b.Add("Node", "%s", joined(", ", s.Node, Prefixed("cluster ", s.Cluster)))
	b.Add("Ready", "%s", readyText(s))
	b.Add("Versions", "%s", joined(", ", "agent "+s.Version, "up "+Duration(now.Sub(s.Started)), Prefixed("kernel ", s.Kernel)))
	b.Add("Kubernetes", "%s", kubernetesText(s.Kubernetes))
	if d := s.Datapath; d != nil {
		b.Add("KubeProxyReplacement", "%s", KubeProxyReplacement(d))
		b.Add("Datapath", "%s, attached by %s, MTU %d", d.Mode, d.AttachMode, d.MTU)
		b.Add("Routing", "%s", Routing(d.Routing))
		b.Add("Host Routing", "%s", HostRouting(d.Routing))
		b.Add("Masquerading", "%s", Masquerading(d.Masquerading))
		if d.Services != nil {
			b.Add("Services", "%s", ServicesLine(d.Services))
			b.Add("Flows", "%s", FlowMaps(d))
		}
		b.Add("Host Ports", "%d", d.HostPorts)
		b.Add("NodeMonitor", "%s", NodeMonitor(d))
		b.Add("Flow Buffer", "%s", FlowsKept(s.Flows))
	}
	if s.NetworkPolicies != nil {
		b.Add("NetworkPolicies", "%s", NetworkPolicies(*s.NetworkPolicies))
	}
	if s.IPAM != nil {
		b.Add("IPAM", "%s", IPAM(s.IPAM))
	}
	b.Add("Endpoints", "%d", s.Endpoints)
	if s.Identities != nil {
		b.Add("Identities", "%d known", *s.Identities)
	}
	b.Add("CNI", "%s, %s", either(s.CNI.Serving, "serving", "not serving"), either(s.CNI.Written, s.CNI.Config, "no configuration written"))
	b.Add("Reconcilers", "%s", Reconcilers(s.Reconcilers))
	if h := s.ClusterHealth; h != nil {
		b.Add("Cluster Health", "%s", ClusterHealth(h))
	}
	if s.Datapath != nil && s.Datapath.Error != "" {
		b.Add("Unreadable", "%s", strings.ReplaceAll(s.Datapath.Error, "\n", "; "))
	}
	for _, w := range s.Warnings {
		b.Add("Warning", "%s", w)
	}
	for _, text := range LeftOut(s.LeftOut) {
		b.Add("Left Out", "%s", text)
	}
	return b
}

// fewLeftOut is how many lines a status takes to say what is left out.
const fewLeftOut = 5

// LeftOut says what a node does not carry: the first few, and how many more.
func LeftOut(all []api.LeftOut) []string {
	var out []string
	for i, x := range all {
		if i == fewLeftOut && len(all) > fewLeftOut+1 {
			return append(out, fmt.Sprintf("and %d more: status -o json has them all", len(all)-i))
		}
		out = append(out, fmt.Sprintf("%s %s/%s: %s (%s)", x.Kind, x.Namespace, x.Name, x.Message, x.Reason))
	}
	return out
}

func readyText(s api.Status) string {
	return either(s.Ready, "yes", "no: "+strings.Join(s.NotReady, "; "))
}

func kubernetesText(k api.Kubernetes) string {
	if !k.Reachable {
		return fmt.Sprintf("unreachable at %s: %s", k.Server, k.Error)
	}
	return fmt.Sprintf("Ok, %s at %s, %s", k.Version, k.Server, Plural(k.Nodes, "node"))
}

// KubeProxyReplacement says whether Services are translated in BPF, and on
// which of the node's devices with which addresses.
func KubeProxyReplacement(d *api.Datapath) string {
	if d.Services == nil {
		return "False"
	}
	var devices []string
	for _, name := range d.Services.Devices {
		devices = append(devices, strings.Join(append([]string{name}, addrsOf(d.Devices, name)...), " "))
	}
	if len(devices) == 0 {
		return "True, on no device"
	}
	return "True [" + strings.Join(devices, ", ") + "]"
}

func addrsOf(devices []api.Device, name string) []string {
	var out []string
	for _, dev := range devices {
		if dev.Name == name {
			for _, a := range dev.Addrs {
				out = append(out, a.Addr().String())
			}
		}
	}
	return out
}

// Routing says how packets get to other nodes.
func Routing(r api.Routing) string {
	if r.Tunnel != nil {
		return fmt.Sprintf("%s, to %s, MTU %d", Network(r), Plural(len(r.Routes), "pod CIDR"), r.Tunnel.MTU)
	}
	text := fmt.Sprintf("%s, %s to other nodes", r.Network, Plural(len(r.Routes), "route"))
	if len(r.Skipped) > 0 {
		text += ", none to " + strings.Join(r.Skipped, " ")
	}
	return text
}

// Network is in a few words how packets get to other nodes.
func Network(r api.Routing) string {
	if r.Tunnel == nil {
		return r.Network
	}
	return fmt.Sprintf("Tunnel [%s, port %d] host: %s", r.Tunnel.Protocol, r.Tunnel.Port, r.Host)
}

// HostRouting is BPF, or Legacy and why, and what was asked for if that is
// something else.
func HostRouting(r api.Routing) string {
	text := r.Host
	if r.Requested != "" && r.Requested != r.Host {
		text += ", not " + r.Requested + " as asked for"
	}
	if r.Reason != "" {
		text += " (" + r.Reason + ")"
	}
	return text
}

// Masquerading says what does it, and which destinations it leaves alone.
func Masquerading(m api.Masquerading) string {
	if !m.Enabled {
		return "Disabled"
	}
	text := MasqueradingKind(m)
	switch {
	case len(m.Devices) > 0:
		text += " [" + strings.Join(m.Devices, ", ") + "]"
	case m.Backend != "":
		text += " (" + m.Backend + ")"
	}
	if m.NativeCIDR.IsValid() {
		text += " " + m.NativeCIDR.String()
	}
	return text
}

// MasqueradingKind is BPF, IPTables or Disabled.
func MasqueradingKind(m api.Masquerading) string {
	switch {
	case !m.Enabled:
		return "Disabled"
	case m.Kind == "iptables":
		return "IPTables"
	}
	return m.Kind
}

// ServicesLine counts what the maps hold.
func ServicesLine(s *api.Services) string {
	return fmt.Sprintf("%s, %s, %s", Plural(s.Services, "port"), frontendsText(s), Plural(s.Backends, "backend"))
}

// FlowMaps says how full the maps of flows are.
func FlowMaps(d *api.Datapath) string {
	var parts []string
	for _, m := range d.Maps {
		if (m.Name == "lab_ct" || m.Name == "lab_nat") && m.MaxEntries > 0 {
			parts = append(parts, fmt.Sprintf("%s %d of %d (%d%%)", m.Name, m.Entries, m.MaxEntries, 100*m.Entries/m.MaxEntries))
		}
	}
	text := strings.Join(parts, ", ")
	if d.Untracked {
		text = joined("; ", text, "between pods untracked by the kernel")
	}
	return text
}

func frontendsText(s *api.Services) string {
	total := 0
	var kinds []string
	for _, kind := range []string{"ClusterIP", "NodePort", "ExternalIP", "LoadBalancer", "HostPort"} {
		if n := s.Frontends[kind]; n > 0 {
			total += n
			kinds = append(kinds, fmt.Sprintf("%d %s", n, kind))
		}
	}
	text := Plural(total, "frontend")
	if len(kinds) > 0 {
		text += " (" + strings.Join(kinds, ", ") + ")"
	}
	return text
}

// NodeMonitor says who is told of events, and how.
func NodeMonitor(d *api.Datapath) string {
	m := d.Monitor
	listeners := either(m.Listeners == 0, "nobody listens", Plural(m.Listeners, "listener"))
	return fmt.Sprintf("aggregation %s, %s, ring of %d KiB, %s, %d events lost",
		d.MonitorAggregation, Plural(m.CPUs, "CPU"), m.RingBytes>>10, listeners, m.Lost)
}

// NetworkPolicies says what becomes of as many.
func NetworkPolicies(n int) string {
	switch n {
	case 0:
		return "none; they would not be enforced"
	case 1:
		return "1 NetworkPolicy is NOT enforced"
	}
	return fmt.Sprintf("%d NetworkPolicies are NOT enforced", n)
}

// IPAM says how much of a node's addresses is used, and what cannot be at once.
func IPAM(i *api.IPAM) string {
	text := fmt.Sprintf("%d/%d allocated from %s (%s)", i.Used, i.Capacity, i.CIDR, i.Mode)
	if len(i.Pool) > 0 {
		text += fmt.Sprintf(", pool %s by /%d", strings.Join(i.Pool, " "), i.MaskSize)
	}
	if i.Resting > 0 {
		text += fmt.Sprintf(", %d at rest", i.Resting)
	}
	return text
}

// Reconcilers counts the healthy ones, says what the others miss, and which
// are paused.
func Reconcilers(rs []api.Reconciler) string {
	var failing []string
	for _, r := range rs {
		if !r.Healthy {
			failing = append(failing, r.Name+": "+cmp.Or(r.LastError, "has not run yet"))
		}
		if !r.PausedUntil.IsZero() {
			failing = append(failing, r.Name+" is paused until "+r.PausedUntil.Format(time.TimeOnly))
		}
	}
	return joined("; ", ReconcilersHealthy(rs)+" healthy", failing...)
}

// ReconcilersHealthy is how many of how many are healthy, as "8/9".
func ReconcilersHealthy(rs []api.Reconciler) string {
	healthy := 0
	for _, r := range rs {
		if r.Healthy {
			healthy++
		}
	}
	return fmt.Sprintf("%d/%d", healthy, len(rs))
}

// ClusterHealth counts the nodes that are reached and says what fails.
func ClusterHealth(h *api.ClusterHealth) string {
	text := fmt.Sprintf("%d/%d reachable", h.Reachable, len(h.Nodes))
	if h.Reachable < len(h.Nodes) {
		text += " (" + ByProtocol(h.ICMP, h.TCP, len(h.Nodes)) + ")"
	}
	if h.Endpoint.IsValid() {
		text += " from " + h.Endpoint.String()
	}
	waiting := 0
	var failing []string
	for _, n := range h.Nodes {
		switch {
		case n.Failing != "":
			failing = append(failing, n.Failing)
		case n.ProbedAt.IsZero():
			waiting++
		}
	}
	if waiting > 0 {
		text += fmt.Sprintf(", %d not probed yet", waiting)
	}
	if h.Error != "" {
		failing = append([]string{h.Error}, failing...)
	}
	return joined("; ", text, failing...)
}

// ByProtocol says how many of how many nodes answer by each.
func ByProtocol(icmp, tcp, of int) string {
	return fmt.Sprintf("icmp %d/%d, tcp %d/%d", icmp, of, tcp, of)
}

// joined joins what is not empty.
func joined(sep, first string, more ...string) string {
	all := slices.DeleteFunc(append([]string{first}, more...), func(s string) bool { return s == "" })
	return strings.Join(all, sep)
}

// Prefixed is text with a prefix, or empty where text is.
func Prefixed(prefix, text string) string {
	return either(text != "", prefix+text, "")
}

func either(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

// Plural is "1 node" or "2 nodes".
func Plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func prefixes(ps []netip.Prefix) string {
	words := make([]string, len(ps))
	for i, p := range ps {
		words[i] = p.String()
	}
	return strings.Join(words, " ")
}
