package datapath

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
)

const (
	hostPortChain     = "LAB-HOSTPORT"
	hostPortSNATChain = "LAB-HOSTPORT-SNAT"
)

// hostPortJumps lead to the chains. A loopback address is for the node's own processes: what comes to one from
// elsewhere is left to the kernel, which drops it.
var hostPortJumps = []jump{
	{"PREROUTING", `! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -m comment --comment "wirelab: host ports" -j ` + hostPortChain},
	{"OUTPUT", `-m addrtype --dst-type LOCAL -m comment --comment "wirelab: host ports" -j ` + hostPortChain},
	{"POSTROUTING", `-m comment --comment "wirelab: sources that a host port cannot answer" -j ` + hostPortSNATChain},
}

// HostPort sends connections to a port of this node to a pod on it.
type HostPort struct {
	// Proto is "tcp" or "udp".
	Proto string
	// HostIP is the address of the node that it holds for; any other is refused. The zero Addr or 0.0.0.0 means
	// every one. A loopback address is for the node's own processes.
	HostIP netip.Addr
	// Port is the node's port.
	Port uint16
	// Backend is the pod's address and port.
	Backend netip.AddrPort
	// Namespace and Name are the pod's.
	Namespace, Name string
}

// HostPorts keeps the iptables chains LAB-HOSTPORT and LAB-HOSTPORT-SNAT, in modes that leave Services to
// others. In those that translate Services, host ports are part of [ServiceState].
type HostPorts struct{ d *Datapath }

// HostPorts returns the reconciler of host ports.
func (d *Datapath) HostPorts() *HostPorts { return &HostPorts{d: d} }

// Apply makes the chains match ports. It writes only when what is there differs. What cannot be carried is left
// out, see [HostPorts.Skipped], and is no error.
func (h *HostPorts) Apply(ctx context.Context, ports []HostPort) error {
	if h.d.cfg.Mode.services() {
		return fmt.Errorf("set host ports up: in mode %q they are part of what Services.Apply is given", h.d.cfg.Mode)
	}
	at, err := h.d.place(ctx, "")
	if err != nil {
		return fmt.Errorf("set host ports up: %w", err)
	}
	ports, skipped := forStack(ports, at)
	h.d.chains.Lock()
	defer h.d.chains.Unlock()
	t := h.d.iptables()
	have, err := t.readNAT(ctx)
	if err != nil {
		return fmt.Errorf("read host ports: %w", err)
	}
	want := []chain{{hostPortChain, dnatRules(ports)}, {hostPortSNATChain, snatRules(ports)}}
	lines := difference(have, want, hostPortJumps)
	if err := t.restoreNAT(ctx, lines); err != nil {
		return fmt.Errorf("set host ports up: %w", err)
	}
	h.d.skippedHostPorts.set(skipped, h.d.log)
	if len(lines) == 0 {
		return nil
	}
	h.d.log.Info("host ports are set", "count", len(ports))
	return h.d.forgetUDP(have[hostPortChain], want[0].rules)
}

// forStack are the host ports that the node's stack carries, sorted, and what it does not: of two for one address
// the first has it.
func forStack(ports []HostPort, at place) (carried []HostPort, skipped []Skipped) {
	ports = slices.Clone(ports)
	slices.SortFunc(ports, HostPort.compare)
	for _, p := range ports {
		left := p.check(at)
		switch {
		case left != nil:
		case len(carried) > 0 && carried[len(carried)-1].sameClaim(p):
			if carried[len(carried)-1].Backend == p.Backend {
				continue
			}
			left = p.skip(AddressTaken, "it is that of pod %s/%s", carried[len(carried)-1].Namespace, carried[len(carried)-1].Name)
		default:
			carried = append(carried, p)
			continue
		}
		skipped = append(skipped, *left)
	}
	return carried, skipped
}

// sameClaim says whether both are for the same packets.
func (p HostPort) sameClaim(o HostPort) bool {
	return p.Proto == o.Proto && p.Port == o.Port && (p.HostIP == o.HostIP || p.anyHostIP() && o.anyHostIP())
}

// Clean removes the chains.
func (h *HostPorts) Clean(ctx context.Context) error {
	h.d.chains.Lock()
	defer h.d.chains.Unlock()
	return cleanHostPorts(ctx, h.d.iptables())
}

func cleanHostPorts(ctx context.Context, t iptables) error {
	if err := t.remove(ctx, hostPortChain, hostPortSNATChain); err != nil {
		return fmt.Errorf("remove host ports: %w", err)
	}
	return nil
}

// check says why the node does not carry the host port, wherever else it is claimed; nil when it does. An
// address that is not the node's would be taken from whoever has it.
func (p HostPort) check(at place) *Skipped {
	reason, why := flawOf(p.Backend)
	switch {
	case protocols[p.Proto] == 0:
		return p.skip(NotCarried, "only TCP and UDP are carried")
	case p.Port == 0:
		return p.skip(NotValid, "0 is not a port")
	case why != "":
		return p.skip(reason, "it cannot lead to %s: %s", p.Backend, why)
	case p.anyHostIP():
		return nil
	case !p.HostIP.Is4():
		return p.skip(NotCarried, "only IPv4 is carried")
	case !at.isOwn(p.HostIP):
		return p.skip(NotNodeAddress, "%s is not an address of this node", p.HostIP)
	}
	return nil
}

func (p HostPort) skip(reason SkipReason, format string, args ...any) *Skipped {
	return &Skipped{
		Kind: SkippedHostPort, Namespace: p.Namespace, Name: p.Name, Reason: reason,
		Message: fmt.Sprintf("host port %s/%s is left out: %s", p.name(), p.Proto, fmt.Sprintf(format, args...)),
	}
}

// name is the port, with the address if it is for one alone.
func (p HostPort) name() string {
	if p.anyHostIP() {
		return fmt.Sprint(p.Port)
	}
	return netip.AddrPortFrom(p.HostIP, p.Port).String()
}

func (p HostPort) anyHostIP() bool { return !p.HostIP.IsValid() || p.HostIP.IsUnspecified() }

// compare puts ports for one address before those for any, as the first rule that matches wins.
func (p HostPort) compare(o HostPort) int {
	anyRank := func(p HostPort) int {
		if p.anyHostIP() {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(p.Proto, o.Proto),
		cmp.Compare(p.Port, o.Port),
		cmp.Compare(anyRank(p), anyRank(o)),
		p.HostIP.Compare(o.HostIP),
		p.Backend.Compare(o.Backend),
	)
}

func dnatRules(ports []HostPort) []string {
	var rules []string
	for _, p := range ports {
		dst := ""
		if !p.anyHostIP() {
			dst = fmt.Sprintf("-d %s/32 ", p.HostIP)
		}
		rules = append(rules, fmt.Sprintf(`%s-p %s -m %s --dport %d -m comment --comment "wirelab: a host port" -j DNAT --to-destination %s`,
			dst, p.Proto, p.Proto, p.Port, p.Backend))
	}
	return rules
}

// snatRules give the router's address to what could not be answered: a pod that asks for its own host port would
// not take a packet from its own address, and a loopback address is the pod's own, too.
func snatRules(ports []HostPort) []string {
	var rules []string
	add := func(p HostPort, from netip.Prefix, why string) {
		pod := p.Backend.Addr()
		rule := fmt.Sprintf(`-s %s -d %s/32 -p %s -m %s --dport %d -m comment --comment "wirelab: %s" -j MASQUERADE`,
			from, pod, p.Proto, p.Proto, p.Backend.Port(), why)
		if !slices.Contains(rules, rule) {
			rules = append(rules, rule)
		}
	}
	for _, p := range ports {
		pod := p.Backend.Addr()
		add(p, netip.PrefixFrom(pod, pod.BitLen()), "a pod to its own host port")
		if p.anyHostIP() || p.HostIP.IsLoopback() {
			add(p, loopback, "a host port on loopback")
		}
	}
	return rules
}

// loopback are the addresses that mean the host itself (RFC 1122, 3.2.1.3).
var loopback = netip.MustParsePrefix("127.0.0.0/8")
