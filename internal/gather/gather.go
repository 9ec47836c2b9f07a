// Package gather asks many agents for their flows at once, and puts what they tell in the order of time.
package gather

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

// Node is one whose agent is asked.
type Node struct {
	Name string
	// Ask hands on what the agent tells of the flows that f picks, until there is no more, each says so, or ctx is done.
	Ask func(ctx context.Context, f api.FlowFilter, each func(api.FlowLine) bool) error
}

// Gathering is how nodes are asked.
type Gathering struct {
	// Nodes are those there are; each name comes once.
	Nodes func() []Node
	// Again is how long after an agent has stopped to tell, or has come, it is asked by who follows; 0: never.
	Again time.Duration
	// Started is called when each node has begun to tell, or has failed to. May be nil.
	Started func()
	// Stopped is told of each node that tells no more, though it is followed, and why. May be nil.
	Stopped func(node string, err error)
}

// Failure is why one node told nothing, or stopped.
type Failure struct {
	Node string
	Err  error
}

// Failures are those of the nodes that failed, in the order of the nodes.
type Failures struct {
	Of  []Failure
	All bool // no node told anything
}

func (f *Failures) Error() string {
	var words []string
	for _, one := range f.Of {
		words = append(words, fmt.Sprintf("node %s: %v", one.Node, one.Err))
	}
	return strings.Join(words, "\n")
}

// Unknown is what a filter names and no node knows.
type Unknown struct{ Names []string }

func (u *Unknown) Error() string { return "no node knows of " + strings.Join(u.Names, ", nor of ") }

// Flows hands the flow records that f picks to emit, in the order of their times: those that agents have, and with f.Follow
// those that come, until ctx ends, which is no error, or emit fails. f.Last is of all nodes together. A line with UpTo alone
// comes once what was there is handed on, if f follows. The error is [*Failures] where nodes did not answer, or stopped to;
// what the others tell is handed on all the same. It is [*Unknown] where no node knows what f names.
func (g Gathering) Flows(ctx context.Context, f api.FlowFilter, emit func(api.FlowLine) error) error {
	var readers sync.WaitGroup
	defer readers.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	from := make(chan told)
	ask := func(n Node, f api.FlowFilter) {
		readers.Go(func() {
			hand := func(x told) bool {
				x.node = n.Name
				select {
				case from <- x:
					return true
				case <-ctx.Done():
					return false
				}
			}
			err := n.Ask(ctx, f, func(line api.FlowLine) bool { return hand(told{line: line}) })
			hand(told{over: true, err: err})
		})
	}
	again := g.Again > 0 && f.Follow
	m := newMerge(f, again)
	for _, n := range g.Nodes() {
		m.asked(n.Name, time.Now())
		ask(n, f)
	}
	tick := time.NewTicker(Silence / 10) // to see who is silent
	defer tick.Stop()
	looked := time.Now()
	started, said := false, map[string]bool{}
	for m.reading() {
		select {
		case <-ctx.Done():
			if f.Follow {
				return nil
			}
			return ctx.Err()
		case x := <-from:
			m.add(x, time.Now())
			if x.line.Start != nil {
				delete(said, x.node)
			}
			if x.err != nil && f.Follow && g.Stopped != nil && !said[x.node] {
				said[x.node] = true // once, however often it is asked again
				g.Stopped(x.node, x.err)
			}
		case <-tick.C:
		}
		if !m.begun && m.starting() > 0 {
			continue
		}
		if !started && g.Started != nil {
			g.Started()
		}
		started = true
		if err := m.unknown(); err != nil {
			return err
		}
		if !m.begun && m.mute() {
			return m.failed()
		}
		if now := time.Now(); again && now.Sub(looked) >= g.Again {
			looked = now
			for _, n := range g.Nodes() {
				if since, ok := m.askAgain(n.Name, now); ok {
					missed := f
					missed.Since, missed.Last = since, -1
					ask(n, missed)
				}
			}
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
