package gather

import (
	"slices"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

// Silence is how long a node may tell nothing before what the others tell is handed on without its own. One that is
// followed says several times a second how far it is.
const Silence = 3 * time.Second

// maxHeld bounds how many lines are held for those of other nodes.
const maxHeld = 1 << 17

// told is what came from a node: a line, or that there are no more.
type told struct {
	node string
	line api.FlowLine
	over bool
	err  error
}

// merge puts what nodes tell in the order of their times. Where their clocks are not one, it is as right as these.
type merge struct {
	filter  api.FlowFilter
	endless bool // nodes that are over may be asked again
	names   []string
	told    map[string]*teller
	held    []api.FlowLine
	begun   bool      // the records that were there are handed on
	done    time.Time // all before that is
}

// teller is how far a node has told.
type teller struct {
	start *api.FlowStart
	upTo  time.Time // all before that is told
	heard time.Time // when anything came
	over  bool
	err   error
}

func newMerge(f api.FlowFilter, endless bool) *merge {
	return &merge{filter: f, endless: endless, told: map[string]*teller{}}
}

// asked notes that a node is asked.
func (m *merge) asked(name string, now time.Time) {
	if m.told[name] == nil {
		m.names = append(m.names, name)
	}
	m.told[name] = &teller{heard: now}
}

// askAgain notes that a node is asked that has stopped to tell, or is new, and since when it has not told; false where it is
// being read.
func (m *merge) askAgain(name string, now time.Time) (since time.Time, ok bool) {
	t := m.told[name]
	if t != nil && !t.over {
		return since, false
	}
	since = m.done
	if t != nil && !t.upTo.IsZero() {
		since = t.upTo
	}
	m.asked(name, now)
	m.told[name].upTo = since // and if it fails again, it is since then
	return since, true
}

func (m *merge) add(x told, now time.Time) {
	t := m.told[x.node]
	t.heard = now
	switch {
	case x.over:
		t.over, t.err = true, x.err
	case x.line.Start != nil:
		t.start = x.line.Start
	case !x.line.UpTo.IsZero():
		t.upTo = x.line.UpTo
	case x.line.Flow != nil || x.line.Lost != nil:
		m.held = append(m.held, x.line)
	}
}

// reading says whether a node has more to tell, or something is held.
func (m *merge) reading() bool {
	if m.endless {
		return true
	}
	for _, t := range m.told {
		if !t.over {
			return true
		}
	}
	return len(m.held) > 0
}

// starting is how many nodes have not begun to tell.
func (m *merge) starting() (n int) {
	for _, t := range m.told {
		if t.start == nil && !t.over {
			n++
		}
	}
	return n
}

// unknown is an error where all nodes that have begun know nothing of something that the filter names.
func (m *merge) unknown() error {
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
	return &Unknown{Names: of}
}

// take returns the lines that are in order now, and no longer holds them.
func (m *merge) take(now time.Time) []api.FlowLine {
	upTo, all := m.upTo(now)
	if !all && !upTo.After(m.done) && len(m.held) < maxHeld {
		return nil
	}
	m.done = upTo
	slices.SortStableFunc(m.held, func(a, b api.FlowLine) int { return a.Time().Compare(b.Time()) })
	n := len(m.held)
	if !all {
		n, _ = slices.BinarySearchFunc(m.held, upTo, func(l api.FlowLine, t time.Time) int { return l.Time().Compare(t) })
		if len(m.held) >= maxHeld {
			n = max(n, maxHeld/8) // not one, as each time all are put in order
		}
	}
	out := slices.Clone(m.held[:n])
	m.held = slices.Delete(m.held, 0, n)
	if !m.begun {
		m.begun = true
		out = last(out, m.filter.Last)
	}
	return out
}

// upTo is up to when every node has told; all where no more comes. Of a node that is silent nothing is known.
func (m *merge) upTo(now time.Time) (least time.Time, all bool) {
	all = true
	for _, t := range m.told {
		if t.over {
			continue
		}
		all = false
		if m.begun && now.Sub(t.heard) > Silence {
			continue
		}
		if t.upTo.IsZero() {
			return time.Time{}, false
		}
		if least.IsZero() || t.upTo.Before(least) {
			least = t.upTo
		}
	}
	if least.IsZero() {
		least = now // every one is silent, or over
	}
	return least, all
}

// last are the lines from the one on that has the nth last flow; all if n is negative.
func last(lines []api.FlowLine, n int) []api.FlowLine {
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

// mute says whether no node tells anything.
func (m *merge) mute() bool {
	for _, t := range m.told {
		if t.start != nil || t.err == nil {
			return false
		}
	}
	return len(m.told) > 0
}

// failed is why nodes told nothing, or stopped.
func (m *merge) failed() error {
	f := &Failures{All: m.mute()}
	for _, name := range m.names {
		if err := m.told[name].err; err != nil {
			f.Of = append(f.Of, Failure{name, err})
		}
	}
	if len(f.Of) == 0 {
		return nil
	}
	return f
}
