package datapath

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/internal/settings"
)

const masqueradeChain = "LAB-MASQUERADE"

var masqueradeJump = jump{"POSTROUTING", `-m comment --comment "wirelab: pods to the outside" -j ` + masqueradeChain}

// Masquerade keeps the iptables chain LAB-MASQUERADE, or, where BPF masquerades, the nodes' addresses in lab_nodes.
type Masquerade struct{ d *Datapath }

// Masquerade returns the reconciler of masquerading.
func (d *Datapath) Masquerade() *Masquerade { return &Masquerade{d: d} }

// Apply makes chain or map match nodes, whose addresses pods reach with their own, and the ports that Services
// and host ports have on this node: it is to be called again when these have changed. Without
// masquerading, and where BPF masquerades, the chain is removed. It writes only when what is there
// differs.
func (m *Masquerade) Apply(ctx context.Context, nodes []Node) error {
	if m.d.cfg.KubeProxyReplacement {
		if err := m.d.enterNodes(clusterAddrs(m.d.cfg, nodes)); err != nil {
			return fmt.Errorf("set masquerading up: %w", err)
		}
	}
	if m.d.cfg.Roles().Masquerade != settings.MasqueradeIPTables {
		return m.d.removeChains(ctx, masqueradeChains)
	}
	ports, err := m.ports()
	if err != nil {
		return fmt.Errorf("set masquerading up: %w", err)
	}
	m.d.chains.Lock()
	defer m.d.chains.Unlock()
	want := chain{masqueradeChain, masqueradeRules(m.d.cfg, nodes, ports)}
	changed, err := m.d.iptables("nat").ensure(ctx, []chain{want}, []jump{masqueradeJump})
	if err == nil && changed {
		err = m.d.forgetTracked(leftAsItIs(m.d.cfg, nodes))
	}
	if err != nil {
		return fmt.Errorf("set masquerading up: %w", err)
	}
	return nil
}

// leftAsItIs picks flows that pods have sent to the outside with their own address. The kernel asks the rules about a
// flow's first packet only: one that goes on, such as a ping, would never be masqueraded. Connections of TCP that were
// not answered begin anew by themselves.
func leftAsItIs(cfg Config, nodes []Node) trackedFlows {
	addrs := clusterAddrs(cfg, nodes)
	return func(f *netlink.ConntrackFlow) bool {
		pod, peer := toAddr(f.Forward.SrcIP), toAddr(f.Reverse.SrcIP)
		_, node := slices.BinarySearchFunc(addrs, peer, netip.Addr.Compare)
		return f.Forward.Protocol != unix.IPPROTO_TCP && cfg.PodCIDR.Contains(pod) && toAddr(f.Reverse.DstIP) == pod &&
			!node && !cfg.IPv4NativeRoutingCIDR.Contains(peer) && !cfg.PodCIDR.Contains(peer)
	}
}

// ports are those that iptables masquerades with; nil: any. Where Services are translated in BPF, connection
// tracking does not know which ports are theirs.
func (m *Masquerade) ports() (*portRange, error) {
	if !m.d.cfg.KubeProxyReplacement {
		return nil, nil
	}
	used, err := m.d.outerPorts()
	if err != nil {
		return nil, err
	}
	ports := masqueradePorts(used)
	if m.d.cfg.nat != natRanges[0] {
		ports = longestGap(portRange{natMin, natMax - 1}, used)
	}
	return &ports, nil
}

// clusterAddrs are the nodes' addresses, this one's among them, sorted.
func clusterAddrs(cfg Config, nodes []Node) []netip.Addr {
	addrs := make([]netip.Addr, 0, len(nodes)+1)
	for _, n := range append(slices.Clone(nodes), Node{IP: cfg.NodeIP}) {
		if n.IP.Is4() {
			addrs = append(addrs, n.IP)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

// masqueradeRules leave out packets to nodes first: between pods and nodes both sides keep their addresses. Packets to
// local pods are left out by their devices, which are ours. Protocols without ports come last.
func masqueradeRules(cfg Config, nodes []Node, ports *portRange) []string {
	var rules []string
	for _, a := range clusterAddrs(cfg, nodes) {
		if cfg.tunnelDevice() == "" {
			rules = append(rules, fmt.Sprintf(`-d %s/32 -m comment --comment "wirelab: a node" -j RETURN`, a))
		}
	}
	leaving := fmt.Sprintf(`-s %s ! -d %s ! -o lab_+ `, cfg.PodCIDR, cfg.IPv4NativeRoutingCIDR)
	const masquerade = `-m comment --comment "wirelab: leaves the native CIDR" -j MASQUERADE `
	if ports != nil {
		for _, proto := range []string{"tcp", "udp"} {
			rules = append(rules, fmt.Sprintf(`%s-p %s %s--to-ports %s --random-fully`, leaving, proto, masquerade, ports))
		}
	}
	return append(rules, leaving+masquerade+"--random-fully")
}
