package labs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/api/client"
	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/kube"
)

// Flows hands the flow records that f picks to emit, in the order of their times: those that the agents of all nodes, or of
// one, have, and with f.Follow those that come, until ctx ends, which is no error, or emit fails. f.Last is of all nodes
// together. A line with UpTo alone comes once what was there is handed on, if f follows. The error says which nodes did not
// answer, or stopped to, and why; what the others tell is handed on all the same. That no node knows what f names is an error.
func (l *Lab) Flows(ctx context.Context, node string, f api.FlowFilter, emit func(api.FlowLine) error) error {
	nodes, err := l.nodesOf(node)
	if err != nil {
		return err
	}
	over := telling(l.say, "waiting for the agents of lab "+l.Name)
	defer func() { over() }()
	agents, err := l.agentPods(ctx)
	if err != nil {
		return err
	}
	var readers sync.WaitGroup
	defer readers.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	from := make(chan nodeFlow)
	for _, n := range nodes {
		readers.Go(func() {
			hand := func(x nodeFlow) bool {
				x.node = n.Name
				select {
				case from <- x:
					return true
				case <-ctx.Done():
					return false
				}
			}
			err := l.flowsOf(ctx, n, agents[n.Name], f, func(line api.FlowLine) bool { return hand(nodeFlow{line: line}) })
			hand(nodeFlow{over: true, err: err})
		})
	}
	m := newFlowMerge(nodes, f)
	tick := time.NewTicker(flowsSilent / 10) // to see who is silent
	defer tick.Stop()
	for m.reading() {
		select {
		case <-ctx.Done():
			if f.Follow {
				return nil
			}
			return ctx.Err()
		case x := <-from:
			m.add(x, time.Now())
			if x.err != nil && f.Follow && len(nodes) > 1 && l.say != nil {
				l.say(fmt.Sprintf("node %s tells no more: %v", x.node, explainKubelet(x.node, "the agent", x.err)))
			}
		case <-tick.C:
		}
		if m.starting() > 0 {
			continue
		}
		over()
		over = func() {}
		if err := m.unknown(); err != nil {
			return err
		}
		began := m.begun
		for _, line := range m.take(time.Now()) {
			if err := emit(line); err != nil {
				return err
			}
		}
		if m.begun && !began && f.Follow {
			if err := emit(api.FlowLine{UpTo: m.done}); err != nil {
				return err
			}
		}
	}
	return m.failed()
}

// agentClient asks an agent over its own API, through its pod.
func (l *Lab) agentClient(agent *corev1.Pod) *client.Client {
	ref := kube.PodRef{Namespace: agent.Namespace, Name: agent.Name, Container: agentContainer}
	return client.NewOver("pod "+ref.String(), func(context.Context) (net.Conn, error) { return l.Kube.Dial(ref, agentBinary, "dial"), nil })
}

// flowsOf hands on what one agent tells until it ends, or each says so.
func (l *Lab) flowsOf(ctx context.Context, n cluster.Node, agent *corev1.Pod, f api.FlowFilter, each func(api.FlowLine) bool) error {
	switch {
	case n.Down() != "":
		return errors.New(n.Down())
	case agent == nil:
		return errors.New("no agent pod on this node")
	}
	return readFlows(ctx, l.agentClient(agent), f, each)
}

// readFlows reads from an agent that may have to start, and begins to answer within beginTimeout.
func readFlows(ctx context.Context, c *client.Client, f api.FlowFilter, each func(api.FlowLine) bool) error {
	asked, giveUp := context.WithCancel(ctx)
	defer giveUp()
	late := time.AfterFunc(beginTimeout, giveUp)
	defer late.Stop()
	begun := false
	var stopped error // of one that had begun, which is not tried again
	err := whenStarted(asked, agentPatience, func() error {
		for line, err := range c.FlowRecords(asked, f) {
			switch {
			case err != nil && begun:
				stopped = err
				return nil
			case err != nil:
				return err
			case !begun && !late.Stop():
				giveUp() // if that is not done yet
				return nil
			case !each(line):
				return nil
			}
			begun = true
		}
		return nil
	})
	if err == nil && !begun && asked.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("its agent does not answer within %s", beginTimeout)
	}
	return errors.Join(err, stopped)
}

// flowsSilent is how long a node may tell nothing before the records of the others are handed on without its own. One that
// is followed says several times a second how far it is.
const flowsSilent = 3 * time.Second

// maxHeldFlows bounds how many lines are held for those of other nodes.
const maxHeldFlows = 1 << 17

// nodeFlow is what came from a node: a line, or that there are no more.
type nodeFlow struct {
	node string
	line api.FlowLine
	over bool
	err  error
}

// flowMerge puts what nodes tell in the order of their times. The nodes are on one machine, so their clocks are one.
type flowMerge struct {
	filter   api.FlowFilter
	nodes    []cluster.Node
	told     map[string]*toldFlows
	failures []error
	held     []api.FlowLine
	begun    bool      // the records that were there are handed on
	done     time.Time // all before that is
}

// toldFlows is how far a node has told.
type toldFlows struct {
	start *api.FlowStart
	upTo  time.Time // all before that is told
	heard time.Time // when anything came
	over  bool
}

func newFlowMerge(nodes []cluster.Node, f api.FlowFilter) *flowMerge {
	m := &flowMerge{filter: f, nodes: nodes, told: map[string]*toldFlows{}, failures: make([]error, len(nodes))}
	for _, n := range nodes {
		m.told[n.Name] = &toldFlows{}
	}
	return m
}

func (m *flowMerge) add(x nodeFlow, now time.Time) {
	t := m.told[x.node]
	t.heard = now
	switch {
	case x.over:
		t.over = true
		m.failures[slices.IndexFunc(m.nodes, func(n cluster.Node) bool { return n.Name == x.node })] = x.err
	case x.line.Start != nil:
		t.start = x.line.Start
	case !x.line.UpTo.IsZero():
		t.upTo = x.line.UpTo
	case x.line.Flow != nil || x.line.Lost != nil:
		m.held = append(m.held, x.line)
	}
}

// reading says whether a node has more to tell, or something is held.
func (m *flowMerge) reading() bool {
	for _, t := range m.told {
		if !t.over {
			return true
		}
	}
	return len(m.held) > 0
}

// starting is how many nodes have not begun to tell.
func (m *flowMerge) starting() (n int) {
	for _, t := range m.told {
		if t.start == nil && !t.over {
			n++
		}
	}
	return n
}

// unknown is an error where all nodes that have begun know nothing of something that the filter names.
func (m *flowMerge) unknown() error {
	var of []string
	first := true
	for _, t := range m.told {
		if t.start == nil {
			continue
		}
		if first {
			of, first = slices.Clone(t.start.Unknown), false
		}
		of = slices.DeleteFunc(of, func(word string) bool { return !slices.Contains(t.start.Unknown, word) })
	}
	if len(of) == 0 {
		return nil
	}
	return fmt.Errorf("no node knows of %s: lab endpoint list and lab identity list have what there is", strings.Join(of, ", nor of "))
}

// take returns the lines that are in order now, and no longer holds them.
func (m *flowMerge) take(now time.Time) []api.FlowLine {
	upTo, all := m.upTo(now)
	if !all && !upTo.After(m.done) && len(m.held) < maxHeldFlows {
		return nil
	}
	m.done = upTo
	slices.SortStableFunc(m.held, func(a, b api.FlowLine) int { return a.Time().Compare(b.Time()) })
	n := len(m.held)
	if !all {
		n, _ = slices.BinarySearchFunc(m.held, upTo, func(l api.FlowLine, t time.Time) int { return l.Time().Compare(t) })
		if len(m.held) >= maxHeldFlows {
			n = max(n, maxHeldFlows/8) // not one, as each time all are put in order
		}
	}
	out := slices.Clone(m.held[:n])
	m.held = slices.Delete(m.held, 0, n)
	if !m.begun {
		m.begun = true
		out = lastFlows(out, m.filter.Last)
	}
	return out
}

// upTo is up to when every node has told; all where no more comes. Of a node that is silent nothing is known.
func (m *flowMerge) upTo(now time.Time) (least time.Time, all bool) {
	all = true
	for _, t := range m.told {
		if t.over {
			continue
		}
		all = false
		if m.begun && now.Sub(t.heard) > flowsSilent {
			continue
		}
		if t.upTo.IsZero() {
			return time.Time{}, false
		}
		if least.IsZero() || t.upTo.Before(least) {
			least = t.upTo
		}
	}
	if least.IsZero() && !all {
		least = now // every one is silent
	}
	return least, all
}

// lastFlows are the lines from the one on that has the nth last flow; all if n is negative.
func lastFlows(lines []api.FlowLine, n int) []api.FlowLine {
	for i := len(lines) - 1; n >= 0 && i >= 0; i-- {
		if lines[i].Flow == nil {
			continue
		}
		if n == 0 {
			return lines[i+1:]
		}
		n--
	}
	return lines
}

// failed is why nodes told nothing, or stopped.
func (m *flowMerge) failed() error { return agentsFailed(m.nodes, m.failures) }
