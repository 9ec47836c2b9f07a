package field

import (
	"context"

	"wirelab.dev/wirelab/verify/probe"
)

// Trial sends flows while rules about them are in place on the nodes.
type Trial struct {
	flows    []Flow
	Rules    Tripwires
	controls map[Hook][]Control

	// What Run has seen: of each protocol of each flow, and by each node's rules.
	Exchanges []Exchange
	Counts    map[string]map[Counted]int
	// Deaf says that rules have not counted what they must count.
	Deaf error
}

// NewTrial is a trial of flows between peers of env, with no rules yet.
func NewTrial(env *Env, flows []Flow) *Trial {
	return &Trial{
		flows: flows, Rules: Tripwires{id: NewMarker(), nodes: env.Nodes},
		controls: map[Hook][]Control{}, Counts: map[string]map[Counted]int{},
	}
}

// AddControls adds the rules in one chain that count the packets of controls,
// and takes these past whatever else there is in FORWARD on their way.
func (t *Trial) AddControls(at Hook, controls []Control, target string) {
	t.controls[at] = controls
	for _, c := range controls {
		if at == FilterForward && target == "" {
			target = accept
		}
		t.Rules.Rules = append(t.Rules.Rules, c.tripwire(at, target))
		if at == ManglePostrouting && target == Drop {
			t.Rules.Rules = append(t.Rules.Rules, c.tripwire(FilterForward, accept))
		}
	}
}

// Run returns an error when there is nothing to judge.
func (t *Trial) Run(ctx context.Context, env *Env, timeout func(Flow) probe.Duration) error {
	return routed(ctx, env, t.controls, func() error {
		return t.Rules.laid(ctx, func() error {
			var err error
			if t.Exchanges, err = ExchangeAll(ctx, t.flows, timeout); err != nil {
				return err
			}
			t.Deaf = t.see(ctx, env)
			return t.Rules.countsOf(ctx, t.Counts)
		})
	})
}
