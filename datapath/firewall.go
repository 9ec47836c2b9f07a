package datapath

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// firewall is one base chain of the node that forwarded packets go through, and the chains it may lead to.
type firewall struct {
	base string
	// policyDrops says that the base chain drops what no rule has decided about.
	policyDrops bool
	chains      map[string][]firewallRule
}

// firewallRule is the part of a rule that is needed here: which packets it may match by the state of their connection, and
// what it does with them.
type firewallRule struct {
	// text is the rule as people know it.
	text string
	// established and untracked say whether the rule leaves packets in that state to its other conditions.
	established, untracked bool
	accepts, drops         bool
	// leadsTo is another chain; it may be a word of iptables that is none.
	leadsTo string
}

// statefulFirewall are the rules of the node, of iptables and nft alike, that let forwarded packets pass by their
// connection's state where others are dropped.
func (d *Datapath) statefulFirewall(ctx context.Context) ([]string, error) {
	saved, err := d.iptables("filter").save(ctx)
	if err != nil {
		err = fmt.Errorf("read the node's iptables firewall: %w", err)
	}
	found := iptablesFirewall(saved).stateful()
	firewalls, nftErr := nftFirewalls()
	if nftErr != nil {
		nftErr = fmt.Errorf("read the node's nft firewall: %w", nftErr)
	}
	for _, f := range firewalls {
		found = append(found, f.stateful()...)
	}
	return found, errors.Join(err, nftErr)
}

// stateful are the rules that a forwarded packet may meet which accept packets of connections that are established and
// no untracked ones, provided that untracked ones are dropped there: by a rule, or by the chain's policy.
func (f firewall) stateful() (accepting []string) {
	drops := f.policyDrops
	met := []string{f.base}
	for i := 0; i < len(met); i++ {
		for _, rule := range f.chains[met[i]] {
			drops = drops || rule.drops && rule.untracked
			if rule.accepts && rule.established && !rule.untracked {
				accepting = append(accepting, rule.text)
			}
			if rule.leadsTo != "" && !slices.Contains(met, rule.leadsTo) {
				met = append(met, rule.leadsTo)
			}
		}
	}
	if !drops {
		return nil
	}
	return accepting
}

// iptablesFirewall reads what iptables-save says about the filter table.
func iptablesFirewall(saved string) firewall {
	f := firewall{base: "FORWARD", chains: map[string][]firewallRule{}}
	f.policyDrops = slices.ContainsFunc(strings.Split(saved, "\n"), func(line string) bool { return strings.HasPrefix(line, ":FORWARD DROP") })
	for chain, rules := range parseNAT(saved) {
		for _, rule := range rules {
			f.chains[chain] = append(f.chains[chain], firewallRule{
				text:        "-A " + chain + " " + rule,
				established: mayMatch(rule, "ESTABLISHED"),
				untracked:   mayMatch(rule, "UNTRACKED"),
				accepts:     jumpsTo(rule, "ACCEPT"),
				drops:       jumpsTo(rule, "DROP") || jumpsTo(rule, "REJECT"),
				leadsTo:     cmp.Or(valueOf(rule, "-j"), valueOf(rule, "-g")),
			})
		}
	}
	return f
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
