package checks

import (
	"context"
	"fmt"
	"slices"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
	"wirelab.dev/wirelab/verify/probe"
)

func hostChecks(env *field.Env) []verify.Check {
	byKernel, byBPF := []string{verify.ModeKubeProxy, verify.ModeKubeProxyReplacement}, []string{verify.ModeEBPF}
	return []verify.Check{
		{
			Name: "host/drops-apply", Needs: []verify.Part{verify.Nodes, verify.Pods, verify.Outside}, MinNodes: 2, Modes: byKernel, Settings: []string{native}, Run: look(env, withFlows(dropPairs, hostDrops)),
			Claim: "A rule on the nodes that drops a flow, in raw PREROUTING, FORWARD or mangle POSTROUTING, stops it between pods on two nodes, and does not stop it between pods on one node.",
		},
		{
			Name: "host/drops-bypassed", Needs: []verify.Part{verify.Nodes, verify.Pods, verify.Outside}, MinNodes: 2, Modes: byBPF, Run: look(env, withFlows(dropPairs, hostDrops)),
			Claim: "A rule on the nodes that drops a flow, in raw PREROUTING, FORWARD or mangle POSTROUTING, stops it neither between pods on two nodes nor between pods on one node.",
		},
		{
			Name: "host/counters-move", Needs: []verify.Part{verify.Nodes, verify.Pods, verify.Outside}, MinNodes: 2, Modes: byKernel, Settings: []string{native}, Run: look(env, withFlows((*field.Env).PairsOfBoth, hostCounters)),
			Claim: "Rules on both nodes count a flow between pods on two nodes in PREROUTING, FORWARD and POSTROUTING; no rule counts one between pods on one node.",
		},
		{
			Name: "host/counters-still", Needs: []verify.Part{verify.Nodes, verify.Pods, verify.Outside}, MinNodes: 2, Modes: byBPF, Run: look(env, withFlows((*field.Env).PairsOfBoth, hostCounters)),
			Claim: "No rule on any node counts a flow between pods: in no chain of iptables, neither on one node nor across nodes.",
		},
		{
			Name: "host/conntrack-pods", Needs: []verify.Part{verify.Nodes, verify.Pods, verify.Outside}, MinNodes: 2, Modes: []string{verify.ModeKubeProxy}, Settings: []string{native}, Run: look(env, withFlows((*field.Env).PairsOfBoth, hostConntrack)),
			Claim: "nf_conntrack of both nodes has an entry of every flow between pods on two nodes, and that of the pod's node one of every flow to the outside; flows between pods on one node have none.",
		},
		{
			Name: "host/conntrack-outside", Needs: []verify.Part{verify.Nodes, verify.Pods, verify.Outside}, MinNodes: 2, Modes: []string{verify.ModeKubeProxyReplacement}, Settings: []string{native}, Run: look(env, withFlows((*field.Env).PairsOfBoth, hostConntrack)),
			Claim: "nf_conntrack has an entry of every flow from a pod to the outside, and none of a flow between pods, on one node or on two.",
		},
		{
			Name: "host/conntrack-empty", Needs: []verify.Part{verify.Nodes, verify.Pods, verify.Outside}, MinNodes: 2, Modes: byBPF, Run: look(env, withFlows((*field.Env).PairsOfBoth, hostConntrack)),
			Claim: "nf_conntrack has no entry of any flow of a pod: to a pod of the same node, to one of another node, or to the outside.",
		},
	}
}

// native is the setting of labs whose nodes' stacks carry packets to other nodes' pods, where BPF does not.
const native = "network.routingMode=native"

// kernelForwards tells whether the stack of the nodes carries a flow.
func kernelForwards(env *field.Env, f field.Flow) bool {
	return env.Mode != verify.ModeEBPF && env.Tunnel == nil && !f.SameNode()
}

// dropHooks are the chains in which flows are dropped.
func dropHooks() []field.Hook {
	return []field.Hook{field.RawPrerouting, field.FilterForward, field.ManglePostrouting}
}

// dropPairs are all pairs for each of the chains.
func dropPairs(env *field.Env) []field.Pair {
	return slices.Repeat(env.PairsOfBoth(), len(dropHooks()))
}

// hostDrops drops flows in one chain each, on all nodes.
func hostDrops(ctx context.Context, env *field.Env, flows []field.Flow, ev *verify.Evidence) error {
	hooks := dropHooks()
	t := field.NewTrial(env, flows)
	for salt, at := range hooks {
		t.AddControls(at, env.Controls(salt), field.Drop)
	}
	droppedIn := map[string]field.Hook{} // by marker
	for i, f := range flows {
		at := hooks[i*len(hooks)/len(flows)]
		droppedIn[f.Marker] = at
		t.Rules.Rules = append(t.Rules.Rules, f.Tripwires(at, field.Drop)...)
	}
	if err := t.Run(ctx, env, func(f field.Flow) probe.Duration { return untilLost(env, f) }); err != nil {
		return err
	}
	after, err := field.ExchangeAll(ctx, flows, field.Patient)
	if err != nil {
		return err
	}
	for i, x := range t.Exchanges {
		if after[i].Lost != "" {
			ev.Wrong(fmt.Sprintf("%s (%s), without any rule", x, x.Protocol), "an answer", after[i].Lost)
		} else if t.Deaf == nil {
			judgeDrop(env, ev, x, droppedIn[x.Marker], t.Counts)
		}
	}
	return t.Deaf
}

// untilLost is how long to wait for an answer: briefly where none may come.
func untilLost(env *field.Env, f field.Flow) probe.Duration {
	if kernelForwards(env, f) {
		return silence
	}
	return probe.Duration(field.AskTimeout)
}

// judgeDrop: what was to be stopped must have been lost, at the rule; what was
// not must have passed it uncounted.
func judgeDrop(env *field.Env, ev *verify.Evidence, x field.Exchange, at field.Hook, counts map[string]map[field.Counted]int) {
	what := fmt.Sprintf("%s (%s), dropped in %s of the nodes", x, x.Protocol, at)
	here := counts[x.From.Node][field.Counted{Hook: at, Key: x.Key(x.Protocol, field.ToServer)}]
	all := 0
	for _, node := range counts {
		all += node[field.Counted{Hook: at, Key: x.Key(x.Protocol, field.ToServer)}] + node[field.Counted{Hook: at, Key: x.Key(x.Protocol, field.FromServer)}]
	}
	words, want := map[bool]string{true: "lost", false: "passes"}, kernelForwards(env, x.Flow)
	if x.Protocol != "udp" {
		ev.Cell(at.String()+" -j DROP", columnName(x.SameNode(), x.Protocol), words[x.Lost != ""], words[want])
	}
	if want {
		ev.Expect(x.Lost != "" && here > 0, what, fmt.Sprintf("lost, and counted by the rule on %s", x.From.Node),
			fmt.Sprintf("%s; the rule on %s counted %d packets", words[x.Lost != ""], x.From.Node, here))
		return
	}
	ev.Expect(x.Lost == "" && all == 0, what, "an answer, and no packet counted by the rules",
		fmt.Sprintf("%s%s; the rules counted %d packets", words[x.Lost != ""], because(x.Lost), all))
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}

// hostCounters has rules count flows in the chains that a node's stack leads
// through, and does nothing else to them.
func hostCounters(ctx context.Context, env *field.Env, flows []field.Flow, ev *verify.Evidence) error {
	through := []field.Hook{field.RawPrerouting, field.ManglePrerouting, field.MangleForward, field.FilterForward, field.ManglePostrouting}
	hooks := append(slices.Clone(through), field.MangleInput, field.MangleOutput)
	t := field.NewTrial(env, flows)
	for _, at := range hooks {
		for _, f := range flows {
			t.Rules.Rules = append(t.Rules.Rules, f.Tripwires(at, "")...)
		}
	}
	const salt = 10 // not those of hostDrops
	for _, at := range through {
		t.AddControls(at, env.Controls(salt), "")
	}
	if err := t.Run(ctx, env, field.Patient); err != nil {
		return err
	}
	for _, x := range t.Exchanges {
		if x.Lost != "" {
			ev.Wrong(fmt.Sprintf("%s (%s)", x, x.Protocol), "an answer", x.Lost)
		} else if t.Deaf == nil {
			judgeCounters(env, ev, x, hooks, through, t.Counts)
		}
	}
	return t.Deaf
}

func judgeCounters(env *field.Env, ev *verify.Evidence, x field.Exchange, hooks, through []field.Hook, counts map[string]map[field.Counted]int) {
	what := fmt.Sprintf("%s (%s)", x, x.Protocol)
	some := false
	for _, node := range env.Nodes {
		onItsWay := node.Node == x.From.Node || node.Node == x.To.Node
		for _, at := range hooks {
			there := counts[node.Node][field.Counted{Hook: at, Key: x.Key(x.Protocol, field.ToServer)}]
			back := counts[node.Node][field.Counted{Hook: at, Key: x.Key(x.Protocol, field.FromServer)}]
			some = some || there+back > 0
			about := fmt.Sprintf("%s, %s of %s", what, at, node.Name)
			words := fmt.Sprintf("%d packets to the server and %d back are counted", there, back)
			want := kernelForwards(env, x.Flow) && onItsWay && slices.Contains(through, at)
			switch {
			case want:
				ev.Expect(there > 0 && back > 0, about, "packets counted both ways", words)
			case there+back > 0:
				ev.Wrong(about, "none counted", words)
			}
		}
	}
	if !some {
		ev.Saw("%s: answered, and no rule on any node counted a packet of it", what)
	}
	words := map[bool]string{true: "yes", false: "no"}
	if x.Protocol != "udp" {
		ev.Cell("counted by iptables", columnName(x.SameNode(), x.Protocol), words[some], words[kernelForwards(env, x.Flow)])
	}
}
