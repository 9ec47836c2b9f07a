package labs

import (
	"cmp"
	"container/heap"
	"time"

	"wirelab.dev/wirelab/internal/gather"
)

// maxHeld bounds how many sights wait for those of other nodes, where a merger says nothing else.
const maxHeld = 16384

// line is what a node tells: what it has seen, or how far it is, or both.
type line[T any] struct {
	seen *T
	at   time.Time // when it saw that
	upTo time.Time // it has told of all that happened before; zero where it does not say
}

// merger puts what several nodes have seen in the order of its times. A sight waits until every node has told of all that
// happened before it. The nodes are on one machine, so their clocks are one.
type merger[T any] struct {
	nodes  map[string]*told
	held   sights
	weight int // of all that is held
	most   int // it may be
	weigh  func(T) int
	came   uint64
}

// told is how far a node has told.
type told struct {
	upTo  time.Time // of all that happened before
	heard time.Time // when it last said anything
}

// newMerger holds sights up to a weight; one weighs 1 where weigh is nil.
func newMerger[T any](most int, weigh func(T) int) *merger[T] {
	if weigh == nil {
		weigh = func(T) int { return 1 }
	}
	return &merger[T]{nodes: map[string]*told{}, most: most, weigh: weigh}
}

// add takes what a node has sent. now is when it came.
func (m *merger[T]) add(node string, line line[T], now time.Time) {
	n := m.nodes[node]
	if n == nil {
		n = &told{}
		m.nodes[node] = n
	}
	n.heard = now
	if line.upTo.After(n.upTo) {
		n.upTo = line.upTo
	}
	if line.seen != nil {
		m.came++
		m.weight += m.weigh(*line.seen)
		heap.Push(&m.held, heldSight{*line.seen, line.at, m.came})
	}
}

// remove forgets a node that tells no more.
func (m *merger[T]) remove(node string) { delete(m.nodes, node) }

// upTo is up to when every node has told, but for those that are silent. It is the zero Time when no node has told.
func (m *merger[T]) upTo(now time.Time) (least time.Time) {
	for _, n := range m.nodes {
		if now.Sub(n.heard) > gather.Silence {
			continue
		}
		if least.IsZero() || n.upTo.Before(least) {
			least = n.upTo
		}
	}
	return least
}

// take returns what is in order now, and no longer holds it.
func (m *merger[T]) take(now time.Time) (out []sight[T]) {
	upTo := m.upTo(now)
	for len(m.held) > 0 && (upTo.IsZero() || !m.held[0].at.After(upTo) || m.weight > m.most) {
		first := heap.Pop(&m.held).(heldSight)
		seen := first.seen.(T)
		m.weight -= m.weigh(seen)
		out = append(out, sight[T]{seen, first.at})
	}
	return out
}

// sight is what was seen, and when.
type sight[T any] struct {
	seen T
	at   time.Time
}

type heldSight struct {
	seen any
	at   time.Time
	came uint64
}

// sights is a heap, with the earliest first, and of those of one time the one that came first.
type sights []heldSight

func (s sights) Len() int { return len(s) }

func (s sights) Less(i, j int) bool {
	return cmp.Or(s[i].at.Compare(s[j].at), cmp.Compare(s[i].came, s[j].came)) < 0
}

func (s sights) Swap(i, j int) { s[i], s[j] = s[j], s[i] }

func (s *sights) Push(x any) { *s = append(*s, x.(heldSight)) }

func (s *sights) Pop() any {
	last := len(*s) - 1
	x := (*s)[last]
	(*s)[last] = heldSight{}
	*s = (*s)[:last]
	return x
}
