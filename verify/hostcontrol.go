package verify

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"wirelab.dev/wirelab/verify/probe"
)

// controlPort is where control packets go; nobody serves it.
const controlPort = 4243

// control is the way of packets that a node's stack forwards in every mode:
// from the host outside through the node to an address that no pod has, of
// another node's podCIDR. That rules count these shows that they are in force.
type control struct {
	through *Node
	to      netip.Addr
}

func (c control) key() string { return "control-" + c.through.Node }

func (c control) tripwire(at hook, drop bool) tripwire {
	return tripwire{hook: at, match: fmt.Sprintf("-d %s -p udp -m udp --dport %d", c.to, controlPort), drop: drop, key: c.key()}
}

// controls lists one way through each node. Addresses of different salts differ.
func (e *Env) controls(salt int) []control {
	var all []control
	for i, node := range e.Nodes {
		next := e.Nodes[(i+1)%len(e.Nodes)]
		to := lastAddress(next.PodCIDR).Prev().Prev()
		for range salt {
			to = to.Prev()
		}
		all = append(all, control{node, to})
	}
	return all
}

// routed gives the host outside a route to each control's address while use runs.
func routed(ctx context.Context, env *Env, controls []control, use func() error) error {
	script := func(verb string) string {
		all := "set -e"
		for _, c := range controls {
			all += fmt.Sprintf("\nip route %s %s/32 via %s", verb, c.to, c.through.Addr)
		}
		return all
	}
	if err := runOn(ctx, env.Outside, script("replace")); err != nil {
		return fmt.Errorf("route control packets: %w", err)
	}
	err := use()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	return errors.Join(err, runOn(ctx, env.Outside, script("del")))
}

// controlTimeout bounds the wait for rules to have counted the control packets,
// which takes milliseconds.
const controlTimeout = 3 * time.Second

// seeControls sends the control packets and waits until the rules in a chain
// have counted them, each on its node. The error says that one has not: then
// what the rules did not count proves nothing.
func seeControls(ctx context.Context, env *Env, w tripwires, at hook, controls []control) error {
	ctx, cancel := context.WithTimeoutCause(ctx, controlTimeout, errors.New("it did not count the control packet"))
	defer cancel()
	return each(controls, func(c control) error {
		reply, err := env.Outside.Probe(ctx, probe.Request{Send: &probe.Send{
			Protocol: "udp", Source: env.Outside.Addr, Destination: c.to, SourcePort: controlPort, DestinationPort: controlPort, Payload: "control",
		}})
		if err != nil {
			return err
		}
		if reply.Failure != "" {
			return fmt.Errorf("send a control packet through %s: %s", c.through.Name, reply.Failure)
		}
		err = poll(ctx, func(ctx context.Context) (bool, error) {
			counts, err := w.counts(ctx, c.through)
			return counts[counted{at, c.key()}] > 0, err
		})
		if err != nil {
			return fmt.Errorf("%s: look whether the rule in %s is in force: %w", c.through.Name, at, err)
		}
		return nil
	})
}
