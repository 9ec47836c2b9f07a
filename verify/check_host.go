package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"wirelab.dev/wirelab/verify/probe"
)

func hostChecks() []Check {
	byKernel, byBPF := []string{modeKubeProxy, modeReplacement}, []string{modeEBPF}
	return []Check{
		{
			Name: "host/drops-apply", MinNodes: 2, Modes: byKernel, Run: hostDrops,
			Claim: "A rule on the nodes that drops a flow, in raw PREROUTING, FORWARD or mangle POSTROUTING, stops it between pods on two nodes, and does not stop it between pods on one node.",
		},
		{
			Name: "host/drops-bypassed", MinNodes: 2, Modes: byBPF, Run: hostDrops,
			Claim: "A rule on the nodes that drops a flow, in raw PREROUTING, FORWARD or mangle POSTROUTING, stops it neither between pods on two nodes nor between pods on one node.",
		},
		{
			Name: "host/counters-move", MinNodes: 2, Modes: byKernel, Run: hostCounters,
			Claim: "Rules on both nodes count a flow between pods on two nodes in PREROUTING, FORWARD and POSTROUTING; no rule counts one between pods on one node.",
		},
		{
			Name: "host/counters-still", MinNodes: 2, Modes: byBPF, Run: hostCounters,
			Claim: "No rule on any node counts a flow between pods: in no chain of iptables, neither on one node nor across nodes.",
		},
		{
			Name: "host/conntrack-pods", MinNodes: 2, Modes: []string{modeKubeProxy}, Run: hostConntrack,
			Claim: "nf_conntrack of both nodes has an entry of every flow between pods on two nodes, and that of the pod's node one of every flow to the outside; flows between pods on one node have none.",
		},
		{
			Name: "host/conntrack-outside", MinNodes: 2, Modes: []string{modeReplacement}, Run: hostConntrack,
			Claim: "nf_conntrack has an entry of every flow from a pod to the outside, and none of a flow between pods, on one node or on two.",
		},
		{
			Name: "host/conntrack-empty", MinNodes: 2, Modes: byBPF, Run: hostConntrack,
			Claim: "nf_conntrack has no entry of any flow of a pod: to a pod of the same node, to one of another node, or to the outside.",
		},
	}
}

// kernelForwards tells whether the stack of the nodes carries a flow.
func (e *Env) kernelForwards(f flow) bool { return e.Mode != modeEBPF && !f.sameNode() }

// hostDrops drops flows in one chain each, on all nodes.
func hostDrops(ctx context.Context, env *Env, ev *Evidence) (err error) {
	hooks := []hook{rawPrerouting, filterForward, manglePostrouting}
	var pairs []pair
	for range hooks {
		pairs = append(pairs, env.pairsOfBoth()...)
	}
	flows, stop, err := openFlows(ctx, pairs)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return err
	}
	t := newTrial(env, flows)
	for salt, at := range hooks {
		t.addControls(at, env.controls(salt), drop)
	}
	droppedIn := map[string]hook{} // by marker
	for i, f := range flows {
		at := hooks[i*len(hooks)/len(flows)]
		droppedIn[f.marker] = at
		t.rules.rules = append(t.rules.rules, f.tripwires(at, drop)...)
	}
	if err := t.run(ctx, env, env.untilLost); err != nil {
		return err
	}
	after, err := exchangeAll(ctx, flows, patient)
	if err != nil {
		return err
	}
	for i, x := range t.exchanges {
		if after[i].lost != "" {
			ev.Wrong("%s (%s): without any rule it is lost: %s", x, x.protocol, after[i].lost)
		} else if t.deaf == nil {
			judgeDrop(env, ev, x, droppedIn[x.marker], t.counts)
		}
	}
	return t.deaf
}

// untilLost is how long to wait for an answer: briefly where none may come.
func (e *Env) untilLost(f flow) probe.Duration {
	if e.kernelForwards(f) {
		return silence
	}
	return probe.Duration(askTimeout)
}

// judgeDrop: what was to be stopped must have been lost, at the rule; what was
// not must have passed it uncounted.
func judgeDrop(env *Env, ev *Evidence, x exchange, at hook, counts map[string]map[counted]int) {
	what := fmt.Sprintf("%s (%s), dropped in %s of the nodes", x, x.protocol, at)
	here := counts[x.from.Node][counted{at, x.key(x.protocol, toServer)}]
	all := 0
	for _, node := range counts {
		all += node[counted{at, x.key(x.protocol, toServer)}] + node[counted{at, x.key(x.protocol, fromServer)}]
	}
	words, want := map[bool]string{true: "lost", false: "passes"}, env.kernelForwards(x.flow)
	if x.protocol != "udp" {
		ev.Cell(at.String()+" -j DROP", columnName(x.sameNode(), x.protocol), words[x.lost != ""], words[want])
	}
	if want {
		ev.Expect(x.lost != "" && here > 0, "%s: %s; on %s the rule counted %d packets, to be at least 1", what, words[x.lost != ""], x.from.Node, here)
		return
	}
	ev.Expect(x.lost == "" && all == 0, "%s: %s%s; the rules counted %d packets, to be 0", what, words[x.lost != ""], because(x.lost), all)
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}

// hostCounters has rules count flows in the chains that a node's stack leads
// through, and does nothing else to them.
func hostCounters(ctx context.Context, env *Env, ev *Evidence) (err error) {
	flows, stop, err := openFlows(ctx, env.pairsOfBoth())
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return err
	}
	through := []hook{rawPrerouting, manglePrerouting, mangleForward, filterForward, manglePostrouting}
	hooks := append(slices.Clone(through), mangleInput, mangleOutput)
	t := newTrial(env, flows)
	for _, at := range hooks {
		for _, f := range flows {
			t.rules.rules = append(t.rules.rules, f.tripwires(at, "")...)
		}
	}
	const salt = 10 // not those of hostDrops
	for _, at := range through {
		t.addControls(at, env.controls(salt), "")
	}
	if err := t.run(ctx, env, patient); err != nil {
		return err
	}
	for _, x := range t.exchanges {
		if x.lost != "" {
			ev.Wrong("%s (%s): %s", x, x.protocol, x.lost)
		} else if t.deaf == nil {
			judgeCounters(env, ev, x, hooks, through, t.counts)
		}
	}
	return t.deaf
}

func judgeCounters(env *Env, ev *Evidence, x exchange, hooks, through []hook, counts map[string]map[counted]int) {
	what := fmt.Sprintf("%s (%s)", x, x.protocol)
	some := false
	for _, node := range env.Nodes {
		onItsWay := node.Node == x.from.Node || node.Node == x.to.Node
		for _, at := range hooks {
			there := counts[node.Node][counted{at, x.key(x.protocol, toServer)}]
			back := counts[node.Node][counted{at, x.key(x.protocol, fromServer)}]
			some = some || there+back > 0
			words := fmt.Sprintf("%s: %s of %s counted %d packets to the server and %d back", what, at, node.Name, there, back)
			want := env.kernelForwards(x.flow) && onItsWay && slices.Contains(through, at)
			switch {
			case want:
				ev.Expect(there > 0 && back > 0, "%s", words)
			case there+back > 0:
				ev.Wrong("%s, to be none", words)
			}
		}
	}
	if !some {
		ev.Saw("%s: answered, and no rule on any node counted a packet of it", what)
	}
	words := map[bool]string{true: "yes", false: "no"}
	if x.protocol != "udp" {
		ev.Cell("counted by iptables", columnName(x.sameNode(), x.protocol), words[some], words[env.kernelForwards(x.flow)])
	}
}
