package datapath

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

const (
	hostPortChain     = "LAB-HOSTPORT"
	hostPortSNATChain = "LAB-HOSTPORT-SNAT"
)

// hostPortJumps lead to the chains. Loopback is left out: a packet from 127.0.0.1 cannot leave the node
// without a sysctl (route_localnet) that would open more than host ports.
var hostPortJumps = []jump{
	{"PREROUTING", `-m addrtype --dst-type LOCAL -m comment --comment "wirelab: host ports" -j ` + hostPortChain},
	{"OUTPUT", `! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -m comment --comment "wirelab: host ports" -j ` + hostPortChain},
	{"POSTROUTING", `-m comment --comment "wirelab: a pod to its own host port" -j ` + hostPortSNATChain},
}

// HostPort sends connections to a port of this node to a pod on it.
type HostPort struct {
	// Proto is "tcp" or "udp".
	Proto string
	// HostIP is the node address it holds for. The zero Addr or 0.0.0.0 means every one but loopback.
	HostIP netip.Addr
	// Port is the node's port.
	Port uint16
	// Backend is the pod's address and port.
	Backend netip.AddrPort
}

// HostPorts keeps the iptables chains LAB-HOSTPORT and LAB-HOSTPORT-SNAT, in modes that leave Services to
// others. In those that translate Services, host ports are part of [ServiceState].
type HostPorts struct{ d *Datapath }

// HostPorts returns the reconciler of host ports.
func (d *Datapath) HostPorts() *HostPorts { return &HostPorts{d: d} }

// Apply makes the chains match ports. It writes only when what is there differs.
func (h *HostPorts) Apply(ctx context.Context, ports []HostPort) error {
	if h.d.cfg.Mode.services() {
		return fmt.Errorf("set host ports up: in mode %q they are part of what Services.Apply is given", h.d.cfg.Mode)
	}
	ports = slices.Clone(ports)
	for _, p := range ports {
		if err := p.validate(); err != nil {
			return err
		}
	}
	slices.SortFunc(ports, HostPort.compare)
	ports = slices.Compact(ports)
	h.d.chains.Lock()
	defer h.d.chains.Unlock()
	t := h.d.iptables()
	have, err := t.readNAT(ctx)
	if err != nil {
		return fmt.Errorf("read host ports: %w", err)
	}
	want := []chain{{hostPortChain, dnatRules(ports)}, {hostPortSNATChain, hairpinRules(ports)}}
	lines := difference(have, want, hostPortJumps)
	if err := t.restoreNAT(ctx, lines); err != nil {
		return fmt.Errorf("set host ports up: %w", err)
	}
	if len(lines) == 0 {
		return nil
	}
	h.d.log.Info("host ports are set", "count", len(ports))
	return h.d.forgetUDP(have[hostPortChain], want[0].rules)
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

func (p HostPort) validate() error {
	switch {
	case p.Proto != "tcp" && p.Proto != "udp":
		return fmt.Errorf("set host port %d up: protocol %q is not tcp or udp", p.Port, p.Proto)
	case p.Port == 0 || p.Backend.Port() == 0:
		return errors.New("set host port up: port 0 is not a port")
	case !p.Backend.Addr().Is4():
		return fmt.Errorf("set host port %d up: %s is not an IPv4 address", p.Port, p.Backend.Addr())
	case p.HostIP.IsValid() && !p.HostIP.Is4():
		return fmt.Errorf("set host port %d up: %s is not an IPv4 address", p.Port, p.HostIP)
	}
	return nil
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

// hairpinRules give a pod that asks for its own host port the router's address: from its own address it
// would not take the packet.
func hairpinRules(ports []HostPort) []string {
	var rules []string
	for _, p := range ports {
		pod := p.Backend.Addr()
		rule := fmt.Sprintf(`-s %s/32 -d %s/32 -p %s -m %s --dport %d -m comment --comment "wirelab: a pod to its own host port" -j MASQUERADE`,
			pod, pod, p.Proto, p.Proto, p.Backend.Port())
		if !slices.Contains(rules, rule) {
			rules = append(rules, rule)
		}
	}
	return rules
}
