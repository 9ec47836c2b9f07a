package field

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"wirelab.dev/wirelab/internal/interrupt"
	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/probe"
)

// controlPort is where control packets go; nobody serves it.
const controlPort = 4243

// Control is the way of packets that a node's stack forwards in every mode:
// from the host outside through the node to an address that no pod has, of
// another node's podCIDR. That rules count these shows that they are in force.
type Control struct {
	through *Node
	to      netip.Addr
}

func (c Control) key() string { return "control-" + c.through.Node }

func (c Control) tripwire(at Hook, target string) Tripwire {
	return Tripwire{Hook: at, match: fmt.Sprintf("-d %s -p udp -m udp --dport %d", c.to, controlPort), target: target, key: c.key()}
}

// Controls lists one way through each node. Addresses of different salts differ.
func (e *Env) Controls(salt int) []Control {
	var all []Control
	for i, node := range e.Nodes {
		next := e.Nodes[(i+1)%len(e.Nodes)]
		to := LastAddress(next.PodCIDR).Prev().Prev()
		for range salt {
			to = to.Prev()
		}
		all = append(all, Control{node, to})
	}
	return all
}

// routed gives the host outside a route to each control's address while use runs.
func routed(ctx context.Context, env *Env, controls map[Hook][]Control, use func() error) error {
	ways := map[netip.Addr]*Node{} // an address may be that of several hooks
	for _, of := range controls {
		for _, c := range of {
			ways[c.to] = c.through
		}
	}
	script := func(verb string) string {
		all := "set -e"
		for to, through := range ways {
			all += fmt.Sprintf("\nip route %s %s/32 via %s", verb, to, through.Addr)
		}
		return all
	}
	if err := runOn(ctx, env.Outside, script("replace")); err != nil {
		return fmt.Errorf("route control packets: %w", err)
	}
	err := use()
	ctx, cancel := interrupt.Cleanup(ctx, verify.CleanupTimeout)
	defer cancel()
	return errors.Join(err, runOn(ctx, env.Outside, script("del")))
}

// controlTimeout bounds the wait for rules to have counted control packets,
// which takes milliseconds.
const controlTimeout = 3 * time.Second

// see sends control packets until every node's rules have counted one in each
// of the hooks. The error says that some have not: then what the rules did not
// count proves nothing. A rule that drops takes a packet from those after it,
// so each hook that drops needs a way of its own.
func (t *Trial) see(ctx context.Context, env *Env) error {
	ways := map[*Node]map[Counted]Control{}
	for at, list := range t.controls {
		for _, c := range list {
			if ways[c.through] == nil {
				ways[c.through] = map[Counted]Control{}
			}
			ways[c.through][Counted{at, c.key()}] = c
		}
	}
	return verify.Each(env.Nodes, func(node *Node) error { return t.Rules.seeCounted(ctx, env.Outside, node, ways[node]) })
}

func (c Control) send(ctx context.Context, from Peer) error {
	reply, err := from.Probe(ctx, probe.Request{Send: &probe.Send{
		Protocol: "udp", Source: from.Addr, Destination: c.to, SourcePort: controlPort, DestinationPort: controlPort, Payload: "control",
	}})
	if err != nil {
		return err
	}
	if reply.Failure != "" {
		return fmt.Errorf("send a control packet through %s: %s", c.through.Name, reply.Failure)
	}
	return nil
}

// seeCounted sends packets the ways of the rules on a node that have counted
// none yet, until there is no such rule.
func (w Tripwires) seeCounted(ctx context.Context, from Peer, node *Node, ways map[Counted]Control) error {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	idle := maps.Clone(ways)
	err := Poll(ctx, func(ctx context.Context) (bool, error) {
		sent := map[netip.Addr]bool{}
		for _, c := range idle {
			if sent[c.to] {
				continue
			}
			sent[c.to] = true
			if err := c.send(ctx, from); err != nil {
				return false, err
			}
		}
		counts, err := w.counts(ctx, node)
		maps.DeleteFunc(idle, func(rule Counted, _ Control) bool { return counts[rule] > 0 })
		return len(idle) == 0, err
	})
	if err != nil {
		var hooks []string
		for rule := range idle {
			hooks = append(hooks, rule.Hook.String())
		}
		slices.Sort(hooks)
		return fmt.Errorf("%s: see rules count control packets, which those in %s did not: %w", node.Name, strings.Join(hooks, ", "), err)
	}
	return nil
}
