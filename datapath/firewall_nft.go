package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The states of a connection that rules tell apart, as nft has them in "ct state" (include/uapi/linux/netfilter/
// nf_conntrack_common.h, NF_CT_STATE_BIT; untracked is a bit of its own).
var nftStates = []struct {
	bit  uint32
	name string
}{
	{expr.CtStateBitINVALID, "invalid"},
	{expr.CtStateBitESTABLISHED, "established"},
	{expr.CtStateBitRELATED, "related"},
	{expr.CtStateBitNEW, "new"},
	{expr.CtStateBitUNTRACKED, "untracked"},
}

// nftFirewalls are the base chains at the hook "forward" for IPv4, in this network namespace. Those of iptables-nft are
// among them: their conditions about connections are extensions of iptables, which say nothing here, so that none of
// their rules is found twice.
func nftFirewalls() ([]firewall, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	chains, err := c.ListChains()
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, nil // a kernel without nf_tables
	}
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	var firewalls []firewall
	for _, base := range chains {
		if !forwardsIPv4(base) {
			continue
		}
		f := firewall{
			base:        base.Name,
			policyDrops: base.Policy != nil && *base.Policy == nftables.ChainPolicyDrop,
			chains:      map[string][]firewallRule{},
		}
		for _, chain := range chains {
			if chain.Table.Name != base.Table.Name || chain.Table.Family != base.Table.Family {
				continue
			}
			if f.chains[chain.Name], err = nftRules(c, chain); err != nil {
				return nil, err
			}
		}
		firewalls = append(firewalls, f)
	}
	return firewalls, nil
}

func forwardsIPv4(c *nftables.Chain) bool {
	family := c.Table.Family
	return (family == nftables.TableFamilyIPv4 || family == nftables.TableFamilyINet) &&
		c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward
}

func nftRules(c *nftables.Conn, chain *nftables.Chain) (rules []firewallRule, err error) {
	list, err := c.GetRules(chain.Table, chain)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil // it has gone since
	}
	if err != nil {
		return nil, fmt.Errorf("list the rules of %s: %w", chain.Name, err)
	}
	for _, r := range list {
		read, err := nftRule(c, chain, r.Exprs)
		if err != nil {
			return nil, err
		}
		rules = append(rules, read...)
	}
	return rules, nil
}

// nftRule reads one rule. A verdict map of connections' states is one rule for each of its elements.
func nftRule(c *nftables.Conn, chain *nftables.Chain, exprs []expr.Any) (rules []firewallRule, err error) {
	states := ^uint32(0)         // the states that the rule leaves to its other conditions
	state := map[uint32]uint32{} // the registers that a connection's state is in, and the mask it was taken by
	for _, e := range exprs {
		switch e := e.(type) {
		case *expr.Ct:
			if e.Key == expr.CtKeySTATE && !e.SourceRegister {
				state[e.Register] = ^uint32(0)
			}
		case *expr.Bitwise:
			if mask, ok := state[e.SourceRegister]; ok && len(e.Mask) == 4 {
				state[e.DestRegister] = mask & binary.NativeEndian.Uint32(e.Mask)
			}
		case *expr.Cmp:
			if mask, ok := state[e.Register]; ok && len(e.Data) == 4 {
				states &= nftCompared(mask, e.Op, binary.NativeEndian.Uint32(e.Data))
			}
			delete(state, e.Register) // the next condition has it
		case *expr.Lookup:
			if _, ok := state[e.SourceRegister]; !ok {
				continue
			}
			delete(state, e.SourceRegister)
			elements, err := nftElements(c, chain.Table, e.SetName)
			if err != nil {
				return nil, err
			}
			if e.IsDestRegSet {
				for _, element := range elements {
					if v, ok := nftVerdict(element.Val); ok && len(element.Key) == 4 {
						rules = append(rules, nftDecides(chain, states&binary.NativeEndian.Uint32(element.Key), v))
					}
				}
				continue
			}
			var of uint32
			for _, element := range elements {
				if len(element.Key) == 4 {
					of |= binary.NativeEndian.Uint32(element.Key)
				}
			}
			if e.Invert {
				of = ^of
			}
			states &= of
		case *expr.Reject:
			rules = append(rules, nftDecides(chain, states, expr.Verdict{Kind: expr.VerdictDrop}))
		case *expr.Verdict:
			rules = append(rules, nftDecides(chain, states, *e))
		}
	}
	return rules, nil
}

// nftCompared are the states that pass a comparison: of the bits that were asked for with none ("ct state established"),
// or of the whole with one state ("ct state == established").
func nftCompared(mask uint32, op expr.CmpOp, with uint32) uint32 {
	switch {
	case op == expr.CmpOpNeq && with == 0:
		return mask
	case op == expr.CmpOpEq && with == 0:
		return ^mask
	case op == expr.CmpOpEq:
		return with
	case op == expr.CmpOpNeq:
		return ^with
	}
	return ^uint32(0)
}

func nftElements(c *nftables.Conn, table *nftables.Table, name string) ([]nftables.SetElement, error) {
	set, err := c.GetSetByName(table, name)
	if err != nil {
		return nil, fmt.Errorf("look up the set %s: %w", name, err)
	}
	elements, err := c.GetSetElements(set)
	if err != nil {
		return nil, fmt.Errorf("list the set %s: %w", name, err)
	}
	return elements, nil
}

// nftVerdict reads the verdict of a map's element, which the library leaves as netlink attributes
// (include/uapi/linux/netfilter/nf_tables.h, enum nft_verdict_attributes). ok is false for other maps.
func nftVerdict(value []byte) (v expr.Verdict, ok bool) {
	attributes, err := nl.ParseRouteAttr(value)
	if err != nil {
		return v, false
	}
	for _, a := range attributes {
		switch {
		case a.Attr.Type == unix.NFTA_VERDICT_CODE && len(a.Value) == 4:
			v.Kind, ok = expr.VerdictKind(int32(binary.BigEndian.Uint32(a.Value))), true
		case a.Attr.Type == unix.NFTA_VERDICT_CHAIN:
			v.Chain = strings.TrimRight(string(a.Value), "\x00")
		}
	}
	return v, ok
}

func nftDecides(chain *nftables.Chain, states uint32, v expr.Verdict) firewallRule {
	r := firewallRule{
		established: states&expr.CtStateBitESTABLISHED != 0,
		untracked:   states&expr.CtStateBitUNTRACKED != 0,
		accepts:     v.Kind == expr.VerdictAccept,
		drops:       v.Kind == expr.VerdictDrop,
		leadsTo:     v.Chain,
	}
	family := "ip"
	if chain.Table.Family == nftables.TableFamilyINet {
		family = "inet"
	}
	r.text = fmt.Sprintf("nft %s %s %s: ct state %s accept", family, chain.Table.Name, chain.Name, nftStateNames(states))
	return r
}

func nftStateNames(states uint32) string {
	var names []string
	for _, s := range nftStates {
		if states&s.bit != 0 {
			names = append(names, s.name)
		}
	}
	return strings.Join(names, ",")
}
