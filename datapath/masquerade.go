package datapath

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
)

const masqueradeChain = "LAB-MASQUERADE"

var masqueradeJump = jump{"POSTROUTING", `-m comment --comment "wirelab: pods to the outside" -j ` + masqueradeChain}

// Masquerade keeps the iptables chain LAB-MASQUERADE.
type Masquerade struct{ d *Datapath }

// Masquerade returns the reconciler of the masquerade chain.
func (d *Datapath) Masquerade() *Masquerade { return &Masquerade{d: d} }

// Apply makes the chain match nodes, whose addresses pods reach with their own. Without
// Config.Masquerade the chain is removed. It writes only when what is there differs.
func (m *Masquerade) Apply(ctx context.Context, nodes []Node) error {
	if !m.d.cfg.Masquerade {
		return m.Clean(ctx)
	}
	m.d.chains.Lock()
	defer m.d.chains.Unlock()
	want := chain{masqueradeChain, masqueradeRules(m.d.cfg, nodes)}
	if err := m.d.iptables().ensure(ctx, []chain{want}, []jump{masqueradeJump}); err != nil {
		return fmt.Errorf("set masquerading up: %w", err)
	}
	return nil
}

// Clean removes the chain.
func (m *Masquerade) Clean(ctx context.Context) error {
	m.d.chains.Lock()
	defer m.d.chains.Unlock()
	return cleanMasquerade(ctx, m.d.iptables())
}

func cleanMasquerade(ctx context.Context, t iptables) error {
	if err := t.remove(ctx, masqueradeChain); err != nil {
		return fmt.Errorf("remove masquerading: %w", err)
	}
	return nil
}

// masqueradeRules spare the nodes first: between pods and nodes both sides keep their addresses. What
// goes to a local pod stays as it is too, since the devices that lead there are ours.
func masqueradeRules(cfg Config, nodes []Node) []string {
	addrs := make([]netip.Addr, 0, len(nodes)+1)
	for _, n := range append(slices.Clone(nodes), Node{IP: cfg.NodeIP}) {
		if n.IP.Is4() {
			addrs = append(addrs, n.IP)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	var rules []string
	for _, a := range slices.Compact(addrs) {
		rules = append(rules, fmt.Sprintf(`-d %s/32 -m comment --comment "wirelab: a node" -j RETURN`, a))
	}
	return append(rules, fmt.Sprintf(
		`-s %s ! -d %s ! -o lab_+ -m comment --comment "wirelab: leaves the native CIDR" -j MASQUERADE --random-fully`,
		cfg.PodCIDR, cfg.NativeCIDR))
}

func (d *Datapath) iptables() iptables { return iptables{root: d.cfg.HostRoot} }
