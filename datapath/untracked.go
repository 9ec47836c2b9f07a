package datapath

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/settings"
)

const untrackedChain = "LAB-UNTRACKED"

// untrackedJump leaves out what the node's own processes send: their flows are few, and masquerading
// and the node's firewall may want them tracked.
var untrackedJump = jump{"PREROUTING", `-m comment --comment "wirelab: pods to pods" -j ` + untrackedChain}

// Untracked keeps the iptables chain LAB-UNTRACKED of the raw table: packets between pods, which BPF has translated or
// which need no translation, are not tracked by the kernel too. Where BPF routes, they do not pass iptables at all.
type Untracked struct{ d *Datapath }

// Untracked returns the reconciler of the chain.
func (d *Datapath) Untracked() *Untracked { return &Untracked{d: d} }

// Apply makes the chain match nodes. Without InstallNoConntrackIptablesRules, and in modes other than
// [settings.ModeKubeProxyReplacement], the chain is removed. It writes only when what is there differs.
func (u *Untracked) Apply(ctx context.Context, nodes []Node) error {
	if !u.d.cfg.Roles().Untracked {
		return u.d.removeChains(ctx, untrackedChains)
	}
	u.d.chains.Lock()
	defer u.d.chains.Unlock()
	want := chain{untrackedChain, untrackedRules(u.d.cfg, nodes)}
	if _, err := u.d.iptables("raw").ensure(ctx, []chain{want}, []jump{untrackedJump}); err != nil {
		return fmt.Errorf("keep pods' traffic untracked: %w", err)
	}
	return nil
}

// untrackedStatus looks only where the rule can be: elsewhere the chain has been removed.
func (d *Datapath) untrackedStatus(ctx context.Context, s *api.Datapath) error {
	if d.cfg.Mode() != settings.ModeKubeProxyReplacement {
		return nil
	}
	raw, err := d.iptables("raw").readNAT(ctx)
	if err != nil {
		return fmt.Errorf("read what is not tracked: %w", err)
	}
	s.Untracked = slices.Contains(raw[untrackedJump.from], untrackedJump.rule) &&
		slices.ContainsFunc(raw[untrackedChain], func(rule string) bool { return strings.Contains(rule, "--notrack") })
	if !s.Untracked {
		return nil
	}
	s.StatefulFirewall, err = d.statefulFirewall(ctx)
	return err
}

// untrackedRules take what stays inside the native-routing CIDR on both ends: nothing of it is
// masqueraded, which takes tracking. Traffic of nodes is left alone even when their addresses are
// inside: others may translate it.
func untrackedRules(cfg Config, nodes []Node) []string {
	if !cfg.IPv4NativeRoutingCIDR.IsValid() {
		return nil
	}
	rules := []string{`-m addrtype --dst-type LOCAL -m comment --comment "wirelab: to the node" -j RETURN`}
	for _, a := range clusterAddrs(cfg, nodes) {
		if !cfg.IPv4NativeRoutingCIDR.Contains(a) {
			continue
		}
		rules = append(rules,
			fmt.Sprintf(`-s %s/32 -m comment --comment "wirelab: a node" -j RETURN`, a),
			fmt.Sprintf(`-d %s/32 -m comment --comment "wirelab: a node" -j RETURN`, a))
	}
	return append(rules, fmt.Sprintf(`-s %s -d %s -m comment --comment "wirelab: pods to pods" -j CT --notrack`, cfg.IPv4NativeRoutingCIDR, cfg.IPv4NativeRoutingCIDR))
}
