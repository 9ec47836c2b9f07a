package datapath

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"wirelab.dev/wirelab/datapath/lb"
)

const (
	hostPortChain     = "LAB-HOSTPORT"
	hostPortSNATChain = "LAB-HOSTPORT-SNAT"
)

// hostPortJumps lead to the chains. Packets from other hosts to a loopback address do not get there: the kernel drops
// them.
var hostPortJumps = []jump{
	{"PREROUTING", `! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -m comment --comment "wirelab: host ports" -j ` + hostPortChain},
	{"OUTPUT", `-m addrtype --dst-type LOCAL -m comment --comment "wirelab: host ports" -j ` + hostPortChain},
	{"POSTROUTING", `-m comment --comment "wirelab: sources that a host port cannot answer" -j ` + hostPortSNATChain},
}

// HostPorts keeps the iptables chains LAB-HOSTPORT and LAB-HOSTPORT-SNAT, in modes that leave Services to
// others. In those that translate Services, host ports are part of [lb.State].
type HostPorts struct{ d *Datapath }

// HostPorts returns the reconciler of host ports.
func (d *Datapath) HostPorts() *HostPorts { return &HostPorts{d: d} }

// Apply makes the chains match ports. It writes only when what is there differs. What cannot be carried is left
// out, see [HostPorts.LeftOut], and is no error.
func (h *HostPorts) Apply(ctx context.Context, ports []lb.HostPort) error {
	if h.d.cfg.KubeProxyReplacement {
		return fmt.Errorf("set host ports up: in mode %q they are part of what Services.Apply is given", h.d.cfg.Mode())
	}
	node, err := h.d.node(ctx)
	if err != nil {
		return fmt.Errorf("set host ports up: %w", err)
	}
	ports, leftOut := lb.DistinctHostPorts(ports, node)
	h.d.chains.Lock()
	defer h.d.chains.Unlock()
	t := h.d.iptables("nat")
	have, err := t.readNAT(ctx)
	if err != nil {
		return fmt.Errorf("read host ports: %w", err)
	}
	want := []chain{{hostPortChain, dnatRules(ports)}, {hostPortSNATChain, snatRules(ports)}}
	lines := difference(have, want, hostPortJumps)
	if err := t.restoreNAT(ctx, lines); err != nil {
		return fmt.Errorf("set host ports up: %w", err)
	}
	h.d.hostPortsLeftOut.set(leftOut, h.d.log)
	if len(lines) == 0 {
		return nil
	}
	h.d.log.Info("host ports are set", "count", len(ports))
	return h.d.forgetUDP(have[hostPortChain], want[0].rules)
}

func dnatRules(ports []lb.HostPort) []string {
	var rules []string
	for _, p := range ports {
		dst := ""
		if !p.EveryAddr() {
			dst = fmt.Sprintf("-d %s/32 ", p.HostIP)
		}
		rules = append(rules, fmt.Sprintf(`%s-p %s -m %s --dport %d -m comment --comment "wirelab: a host port" -j DNAT --to-destination %s`,
			dst, p.Proto, p.Proto, p.Port, p.Backend))
	}
	return rules
}

// snatRules give packets the router's address where the pod could not answer their source: its own address, when a pod
// connects to its own host port, and loopback addresses, which inside the pod are the pod's own.
func snatRules(ports []lb.HostPort) []string {
	var rules []string
	add := func(p lb.HostPort, from netip.Prefix, why string) {
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
		if p.EveryAddr() || p.HostIP.IsLoopback() {
			add(p, loopback, "a host port on loopback")
		}
	}
	return rules
}

// loopback are the addresses that mean the host itself (RFC 1122, 3.2.1.3).
var loopback = netip.MustParsePrefix("127.0.0.0/8")
