package datapath

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

const untrackedChain = "LAB-UNTRACKED"

// untrackedJump leaves out what the node's own processes send: their flows are few, and masquerading
// and the node's firewall may want them tracked.
var untrackedJump = jump{"PREROUTING", `-m comment --comment "wirelab: pods to pods" -j ` + untrackedChain}

// Untracked keeps the iptables chain LAB-UNTRACKED of the raw table: what BPF has translated, or what
// needs no translation, is not tracked by the kernel a second time. Where BPF routes, traffic between pods
// does not come by there.
type Untracked struct{ d *Datapath }

// Untracked returns the reconciler of the chain.
func (d *Datapath) Untracked() *Untracked { return &Untracked{d: d} }

// Apply makes the chain match nodes. Without Config.Untracked, and in modes other than
// ModeKubeProxyReplacement, the chain is removed. It writes only when what is there differs.
func (u *Untracked) Apply(ctx context.Context, nodes []Node) error {
	if !u.d.cfg.Untracked || u.d.cfg.Mode != ModeKubeProxyReplacement {
		return u.Clean(ctx)
	}
	u.d.chains.Lock()
	defer u.d.chains.Unlock()
	t := u.d.iptables()
	t.table = "raw"
	if err := t.ensure(ctx, []chain{{untrackedChain, untrackedRules(u.d.cfg, nodes)}}, []jump{untrackedJump}); err != nil {
		return fmt.Errorf("keep pods' traffic untracked: %w", err)
	}
	return nil
}

// Clean removes the chain.
func (u *Untracked) Clean(ctx context.Context) error {
	u.d.chains.Lock()
	defer u.d.chains.Unlock()
	return cleanUntracked(ctx, u.d.iptables())
}

func cleanUntracked(ctx context.Context, t iptables) error {
	t.table = "raw"
	if err := t.remove(ctx, untrackedChain); err != nil {
		return fmt.Errorf("remove %s: %w", untrackedChain, err)
	}
	return nil
}

// UntrackedStatus says whether traffic between pods is kept out of the kernel's connection tracking.
type UntrackedStatus struct {
	Enabled bool `json:"enabled"`
	// Firewall are rules of the node that let forwarded packets pass by their connection's state, which
	// untracked ones do not have, where others are dropped. Empty when that is no matter.
	Firewall []string `json:"firewall,omitempty"`
}

// untrackedStatus looks only where the rule can be: elsewhere the chain has been removed.
func (d *Datapath) untrackedStatus(ctx context.Context, s *Status) error {
	if d.cfg.Mode != ModeKubeProxyReplacement {
		return nil
	}
	t := d.iptables()
	t.table = "raw"
	raw, err := t.readNAT(ctx)
	if err != nil {
		return fmt.Errorf("read what is not tracked: %w", err)
	}
	s.Untracked.Enabled = slices.Contains(raw[untrackedJump.from], untrackedJump.rule) &&
		slices.ContainsFunc(raw[untrackedChain], func(rule string) bool { return strings.Contains(rule, "--notrack") })
	if !s.Untracked.Enabled {
		return nil
	}
	t.table = "filter"
	saved, err := t.run(ctx, "", "iptables-save", "-t", t.tableName())
	if err != nil {
		return fmt.Errorf("read the node's firewall: %w", err)
	}
	s.Untracked.Firewall = stateful(saved)
	return nil
}

// stateful are the rules that a forwarded packet may meet which accept packets of connections that are
// established, provided that others are dropped there: by a rule, or by the chain's policy. saved is what
// iptables-save says about the filter table.
func stateful(saved string) (accepting []string) {
	table := parseNAT(saved)
	drops := slices.ContainsFunc(strings.Split(saved, "\n"), func(line string) bool { return strings.HasPrefix(line, ":FORWARD DROP") })
	met := []string{"FORWARD"}
	for i := 0; i < len(met); i++ {
		for _, rule := range table[met[i]] {
			switch {
			case jumpsTo(rule, "DROP"), jumpsTo(rule, "REJECT"):
				drops = drops || mayMatch(rule, "UNTRACKED")
			case jumpsTo(rule, "ACCEPT") && mayMatch(rule, "ESTABLISHED") && !mayMatch(rule, "UNTRACKED"):
				accepting = append(accepting, "-A "+met[i]+" "+rule)
			}
			if to := target(rule); to != "" && !slices.Contains(met, to) {
				met = append(met, to)
			}
		}
	}
	if !drops {
		return nil
	}
	return accepting
}

// mayMatch says whether a rule leaves packets in that state of their connection to its other conditions. iptables
// has two words for these states.
func mayMatch(rule, state string) bool {
	fields := strings.Fields(rule)
	for i, f := range fields {
		if (f != "--ctstate" && f != "--state") || i+1 == len(fields) {
			continue
		}
		negated := i > 0 && fields[i-1] == "!"
		if slices.Contains(strings.Split(fields[i+1], ","), state) == negated {
			return false
		}
	}
	return true
}

// target is the chain that a rule leads to; it may be one of iptables' own words.
func target(rule string) string {
	fields := strings.Fields(rule)
	for _, flag := range []string{"-j", "-g"} {
		if i := slices.Index(fields, flag); i >= 0 && i+1 < len(fields) {
			return fields[i+1]
		}
	}
	return ""
}

// untrackedRules take what stays inside the native-routing CIDR on both ends: nothing of it is
// masqueraded, which takes tracking. Traffic of nodes is left alone even when their addresses are
// inside: others may translate it.
func untrackedRules(cfg Config, nodes []Node) []string {
	if !cfg.NativeCIDR.IsValid() {
		return nil
	}
	var addrs []netip.Addr
	for _, n := range append(slices.Clone(nodes), Node{IP: cfg.NodeIP}) {
		if n.IP.Is4() && cfg.NativeCIDR.Contains(n.IP) {
			addrs = append(addrs, n.IP)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	rules := []string{`-m addrtype --dst-type LOCAL -m comment --comment "wirelab: to the node" -j RETURN`}
	for _, a := range slices.Compact(addrs) {
		rules = append(rules,
			fmt.Sprintf(`-s %s/32 -m comment --comment "wirelab: a node" -j RETURN`, a),
			fmt.Sprintf(`-d %s/32 -m comment --comment "wirelab: a node" -j RETURN`, a))
	}
	return append(rules, fmt.Sprintf(`-s %s -d %s -m comment --comment "wirelab: pods to pods" -j CT --notrack`, cfg.NativeCIDR, cfg.NativeCIDR))
}
