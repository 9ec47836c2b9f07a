package verify

import (
	"context"

	"wirelab.dev/wirelab/verify/probe"
)

// trial sends flows while rules about them are in place on the nodes.
type trial struct {
	flows    []flow
	rules    tripwires
	controls map[hook][]control

	// What run has seen: of each protocol of each flow, and by each node's rules.
	exchanges []exchange
	counts    map[string]map[counted]int
	// deaf says that rules have not counted what they must count.
	deaf error
}

func newTrial(env *Env, flows []flow) *trial {
	return &trial{
		flows: flows, rules: tripwires{id: newMarker(), nodes: env.Nodes},
		controls: map[hook][]control{}, counts: map[string]map[counted]int{},
	}
}

// addControls adds the rules in one chain that count the packets of controls,
// and takes these past whatever else there is in FORWARD on their way.
func (t *trial) addControls(at hook, controls []control, target string) {
	t.controls[at] = controls
	for _, c := range controls {
		if at == filterForward && target == "" {
			target = accept
		}
		t.rules.rules = append(t.rules.rules, c.tripwire(at, target))
		if at == manglePostrouting && target == drop {
			t.rules.rules = append(t.rules.rules, c.tripwire(filterForward, accept))
		}
	}
}

// run returns an error when there is nothing to judge.
func (t *trial) run(ctx context.Context, env *Env, timeout func(flow) probe.Duration) error {
	return routed(ctx, env, t.controls, func() error {
		return t.rules.laid(ctx, func() error {
			var err error
			if t.exchanges, err = exchangeAll(ctx, t.flows, timeout); err != nil {
				return err
			}
			t.deaf = t.see(ctx, env)
			return t.rules.countsOf(ctx, t.counts)
		})
	})
}
