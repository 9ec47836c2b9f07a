package identity

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// model is a cluster of agents that hear late, and of one that collects. Its time is its own.
type model struct {
	t      *testing.T
	rand   *rand.Rand
	now    time.Time
	store  map[ID]Entry
	log    []event
	agents []*modelAgent
}

// event is a change of the store.
type event struct {
	at   time.Time
	id   ID
	now  Entry
	gone bool
}

type modelAgent struct {
	m     *model
	alloc *Allocator
	heard int         // of the log
	pods  [2]pod      // those without a number are not there
	used  map[ID]bool // what its node says
}

type pod struct {
	set Set
	id  ID
}

// hears is how late an agent hears of a change, writes its node's status after one, or both.
const hears = (Rest - retiredAfter) / 3

func (m *model) record(e Entry, gone bool) {
	m.log = append(m.log, event{at: m.now, id: e.ID, now: e, gone: gone})
}

func (a *modelAgent) Create(_ context.Context, id ID, s Set) error {
	if _, ok := a.m.store[id]; ok {
		return ErrTaken
	}
	e := Entry{ID: id, Set: s}
	a.m.store[id] = e
	a.m.record(e, false)
	return nil
}

func (a *modelAgent) Read(_ context.Context, id ID) (Entry, error) {
	e, ok := a.m.store[id]
	if !ok {
		return e, ErrNone
	}
	return e, nil
}

// hear takes the next n changes.
func (a *modelAgent) hear(n int) {
	for ; n > 0 && a.heard < len(a.m.log); n-- {
		e := a.m.log[a.heard]
		a.heard++
		if e.gone {
			a.alloc.Numbers.Delete(e.id)
		} else {
			a.alloc.Numbers.Put(e.now)
		}
	}
}

// reconcile gives each pod the number that its set has by what the agent knows.
func (a *modelAgent) reconcile() {
	for i := range a.pods {
		if p := &a.pods[i]; p.id != Unknown {
			p.id = a.get(p.set)
		}
	}
}

// get is Init where all numbers are in use, as for a pod.
func (a *modelAgent) get(s Set) ID {
	id, err := a.alloc.Get(context.Background(), s)
	switch {
	case errors.Is(err, ErrUsedUp):
		return Init
	case err != nil:
		a.m.t.Fatal(err)
	}
	return id
}

func (a *modelAgent) publish() {
	a.used = map[ID]bool{}
	for _, p := range a.pods {
		a.used[p.id] = true
	}
}

// step does one thing at random.
func (m *model) step() {
	a := m.agents[m.rand.IntN(len(m.agents))]
	switch m.rand.IntN(12) {
	case 0:
		a.hear(1 + m.rand.IntN(3))
	case 1, 2, 3, 4: // the pods of a set start on two nodes
		s := set(fmt.Sprint(m.rand.IntN(12)))
		for _, a := range []*modelAgent{a, m.agents[m.rand.IntN(len(m.agents))]} {
			a.pods[m.rand.IntN(2)] = pod{s, a.get(s)}
		}
	case 5, 6:
		a.pods[m.rand.IntN(2)] = pod{}
	case 7:
		a.reconcile()
	case 8:
		a.publish()
	case 9, 10, 11:
		m.pass(time.Duration(m.rand.Int64N(int64(hears))))
		m.collect()
	}
}

// pass lets time pass. No agent is later than it may be.
func (m *model) pass(d time.Duration) {
	m.now = m.now.Add(d)
	for _, a := range m.agents {
		late := false
		for a.heard < len(m.log) && m.now.Sub(m.log[a.heard].at) >= hears {
			a.hear(1)
			late = true
		}
		if late || m.rand.IntN(2) == 0 {
			a.reconcile()
		}
		a.publish()
	}
}

// collect marks what no node has, takes marks off, and deletes what has been marked for long.
func (m *model) collect() {
	used := map[ID]bool{}
	for _, a := range m.agents {
		for id := range a.used {
			used[id] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(m.store)) {
		e := m.store[id]
		marked := !e.UnusedSince.IsZero()
		if used[id] != marked {
			continue
		}
		e.UnusedSince = m.now
		if used[id] {
			e.UnusedSince = time.Time{}
		}
		m.store[id] = e
		m.record(e, false)
	}
	for _, id := range slices.Sorted(maps.Keys(m.store)) {
		if e := m.store[id]; !e.UnusedSince.IsZero() && m.now.Sub(e.UnusedSince) >= Rest {
			m.record(e, true)
			delete(m.store, id)
		}
	}
}

// oneSetEach holds that no number is that of pods of two sets.
func (m *model) oneSetEach() bool {
	owner := map[ID]string{}
	for _, a := range m.agents {
		for _, p := range a.pods {
			if other, ok := owner[p.id]; p.id.OfPods() && ok && other != p.set.Key() {
				return false
			}
			owner[p.id] = p.set.Key()
		}
	}
	return true
}

// settle has everybody hear everything.
func (m *model) settle() {
	for range 4 {
		for _, a := range m.agents {
			a.hear(len(m.log))
			a.reconcile()
			a.publish()
		}
	}
}

// TestNoNumberIsThatOfTwoSets runs agents and a collector in any order and holds that no number is that of pods of two
// sets at any time, that all nodes agree once they have heard, and that what is not used goes. There are so few numbers
// that sets meet numbers of others, get two, and have to wait for one.
func TestNoNumberIsThatOfTwoSets(t *testing.T) {
	var twice, removed int
	for seed := range uint64(200) {
		m := &model{t: t, rand: rand.New(rand.NewPCG(seed, 7)), now: time.Unix(0, 0), store: map[ID]Entry{}}
		for range 3 {
			a := &modelAgent{m: m, used: map[ID]bool{}}
			a.alloc = NewAllocator(NewNumbers(), a)
			a.alloc.Numbers.last, a.alloc.Numbers.now = FirstPod+9, func() time.Time { return m.now }
			m.agents = append(m.agents, a)
		}
		for i := range 2000 {
			m.step()
			if !m.oneSetEach() {
				t.Fatalf("seed %d, step %d: a number is that of two sets", seed, i)
			}
		}
		m.settle()
		m.agree(seed)
		numbers := map[string]map[ID]bool{}
		for _, e := range m.log {
			key := e.now.Set.Key()
			if numbers[key] == nil {
				numbers[key] = map[ID]bool{}
			}
			if e.gone {
				removed++
				delete(numbers[key], e.id)
			} else if numbers[key][e.id] = true; len(numbers[key]) > 1 {
				twice++
			}
		}
	}
	if twice < 10 || removed < 100 {
		t.Errorf("the model did not meet what it is about: a second number was heard of %d times, %d were deleted", twice, removed)
	}
	t.Logf("a second number of a set was heard of %d times, %d numbers were deleted", twice, removed)
}

// agree holds that each pod has its set's number, the same on all nodes.
func (m *model) agree(seed uint64) {
	m.t.Helper()
	numbers := map[string]ID{}
	for _, a := range m.agents {
		for _, p := range a.pods {
			if p.id == Unknown {
				continue
			}
			e, ok := m.store[p.id]
			if p.id != Init && (!ok || e.Retired(m.now) || e.Set.Key() != p.set.Key()) {
				m.t.Fatalf("seed %d: a pod of %v has %d, which is %+v (there: %v)", seed, p.set, p.id, e, ok)
			}
			if other, ok := numbers[p.set.Key()]; ok && other != p.id {
				m.t.Fatalf("seed %d: %v is %d and %d", seed, p.set, other, p.id)
			}
			numbers[p.set.Key()] = p.id
		}
	}
}
