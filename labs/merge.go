package labs

import (
	"cmp"
	"container/heap"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

const (
	// silence is how long a node may say nothing before the events of the others are handed on without knowing its own.
	// An agent says several times a second how far it is.
	silence = 3 * time.Second
	// maxHeld bounds how many events wait for those of other nodes.
	maxHeld = 16384
)

// merger puts the events of several nodes in the order of their times. An event waits until every node has told of all that
// happened before it. The nodes are on one machine, so their clocks are one.
type merger struct {
	nodes map[string]*told
	held  events
	came  uint64
}

// told is how far a node has told.
type told struct {
	upTo  time.Time // of all that happened before
	heard time.Time // when it last said anything
}

func newMerger() *merger { return &merger{nodes: map[string]*told{}} }

// add takes what a node has sent. now is when it came.
func (m *merger) add(node string, line api.MonitorLine, now time.Time) {
	n := m.nodes[node]
	if n == nil {
		n = &told{}
		m.nodes[node] = n
	}
	n.heard = now
	if line.UpTo.After(n.upTo) {
		n.upTo = line.UpTo
	}
	if line.Event != nil {
		m.came++
		heap.Push(&m.held, heldEvent{*line.Event, m.came})
	}
}

// remove forgets a node that tells no more.
func (m *merger) remove(node string) { delete(m.nodes, node) }

// upTo is up to when every node has told, but for those that are silent. It is the zero Time when no node has told.
func (m *merger) upTo(now time.Time) (least time.Time) {
	for _, n := range m.nodes {
		if now.Sub(n.heard) > silence {
			continue
		}
		if least.IsZero() || n.upTo.Before(least) {
			least = n.upTo
		}
	}
	return least
}

// take returns the events that are in order now, and no longer holds them.
func (m *merger) take(now time.Time) (out []api.Event) {
	upTo := m.upTo(now)
	for len(m.held) > 0 && (upTo.IsZero() || !m.held[0].event.Time.After(upTo) || len(m.held) > maxHeld) {
		out = append(out, heap.Pop(&m.held).(heldEvent).event)
	}
	return out
}

type heldEvent struct {
	event api.Event
	came  uint64
}

// events is a heap, with the earliest event first, and of those of one time the one that came first.
type events []heldEvent

func (e events) Len() int { return len(e) }

func (e events) Less(i, j int) bool {
	return cmp.Or(e[i].event.Time.Compare(e[j].event.Time), cmp.Compare(e[i].came, e[j].came)) < 0
}

func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }

func (e *events) Push(x any) { *e = append(*e, x.(heldEvent)) }

func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = heldEvent{}
	*e = (*e)[:last]
	return x
}
