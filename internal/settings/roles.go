package settings

import "strings"

// Mode is what a network's settings amount to, spelt as in profile names, logs and status.
type Mode string

// Modes there are, each a step beyond the last.
const (
	// ModeKubeProxy leaves Services to kube-proxy, and all but delivery to the node's own pods to its IP stack.
	ModeKubeProxy Mode = "kubeproxy"
	// ModeKubeProxyReplacement has BPF carry Services: there is no kube-proxy. The node's IP stack routes.
	ModeKubeProxyReplacement Mode = "kubeproxy-replacement"
	// ModeEBPF routes in BPF besides: pods' traffic between nodes and to the outside does not enter the nodes' IP
	// stacks.
	ModeEBPF Mode = "ebpf"
)

// Routing is what carries packets of pods between the node's devices.
type Routing string

const (
	// RoutingBPF is BPF: packets do not enter the node's IP stack.
	RoutingBPF Routing = "BPF"
	// RoutingLegacy is the node's IP stack, with its routes, iptables and connection tracking.
	RoutingLegacy Routing = "Legacy"
)

// Masquerade is what gives pods' packets their node's address when they leave the native-routing CIDR.
type Masquerade string

// Who masquerades.
const (
	MasqueradeNone     Masquerade = "none"
	MasqueradeIPTables Masquerade = "iptables"
	MasqueradeBPF      Masquerade = "BPF"
)

// Roles say who does what for the packets of a node's pods. All that depends on more than one setting is derived from
// them, here and nowhere else.
type Roles struct {
	// KubeProxyReplacement says that BPF carries Services; else kube-proxy does.
	KubeProxyReplacement bool
	Masquerade           Masquerade
	Routing              Routing
	// Untracked says that traffic between pods stays out of the kernel's connection tracking: the programs keep track of
	// flows, and the node's IP stack would see them.
	Untracked bool
	// Legacy is each reason why Routing is not BPF, as "needs BPF masquerade"; empty when it is.
	Legacy []string
}

// Roles are those that n asks for, on a kernel that lacks the given BPF helpers, without which it cannot route in BPF.
func (n Network) Roles(missing ...string) Roles {
	r := Roles{KubeProxyReplacement: n.KubeProxyReplacement, Masquerade: MasqueradeIPTables, Routing: RoutingBPF}
	switch {
	case !n.EnableIPv4Masquerade:
		r.Masquerade = MasqueradeNone
	case n.BPF.Masquerade:
		r.Masquerade = MasqueradeBPF
	}
	if len(missing) > 0 {
		r.Legacy = append(r.Legacy, "the kernel lacks "+strings.Join(missing, ", "))
	}
	if !r.KubeProxyReplacement {
		r.Legacy = append(r.Legacy, "needs kube-proxy replacement")
	}
	if r.Masquerade == MasqueradeIPTables { // which sees only what the stack carries
		r.Legacy = append(r.Legacy, "needs BPF masquerade")
	}
	if n.BPF.HostLegacyRouting {
		r.Legacy = append(r.Legacy, "switched off by bpf.hostLegacyRouting")
	}
	if len(r.Legacy) > 0 {
		r.Routing = RoutingLegacy
	}
	r.Untracked = n.InstallNoConntrackIptablesRules && r.Mode() == ModeKubeProxyReplacement
	return r
}

// Mode is what r amounts to.
func (r Roles) Mode() Mode {
	switch {
	case !r.KubeProxyReplacement:
		return ModeKubeProxy
	case r.Routing == RoutingBPF:
		return ModeEBPF
	default:
		return ModeKubeProxyReplacement
	}
}
