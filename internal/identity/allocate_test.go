package identity

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// cluster is a store in memory.
type cluster struct {
	mu      sync.Mutex
	entries map[ID]Entry
	creates int
	fail    error
}

func newCluster(entries ...Entry) *cluster {
	c := &cluster{entries: map[ID]Entry{}}
	for _, e := range entries {
		c.entries[e.ID] = e
	}
	return c
}

func (c *cluster) Create(_ context.Context, id ID, s Set) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.creates++
	if c.fail != nil {
		return c.fail
	}
	if _, ok := c.entries[id]; ok {
		return ErrTaken
	}
	c.entries[id] = Entry{ID: id, Set: s}
	return nil
}

func (c *cluster) Read(_ context.Context, id ID) (Entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[id]
	if !ok {
		return Entry{}, ErrNone
	}
	return e, nil
}

func set(app string) Set {
	return Set{Namespace: "ns", ServiceAccount: "default", Labels: map[string]string{"app": app}}
}

func get(t *testing.T, a *Allocator, s Set) ID {
	t.Helper()
	id, err := a.Get(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if !id.OfPods() {
		t.Fatalf("%d is no number of pods", uint32(id))
	}
	return id
}

// TestTwoAgentsAtOnce: agents that know of nothing ask for the same sets at a time.
func TestTwoAgentsAtOnce(t *testing.T) {
	c := newCluster()
	const agents, sets = 8, 50
	got := make([][sets]ID, agents)
	var wg sync.WaitGroup
	for i := range agents {
		a := NewAllocator(NewNumbers(), c)
		wg.Go(func() {
			for j := range sets {
				id, err := a.Get(t.Context(), set(fmt.Sprint(j)))
				if err != nil {
					t.Error(err)
				}
				got[i][j] = id
			}
		})
	}
	wg.Wait()
	owner := map[ID]int{}
	for i := range agents {
		for j, id := range got[i] {
			if id != got[0][j] {
				t.Errorf("set %d is %d for agent %d and %d for agent 0", j, id, i, got[0][j])
			}
			if other, ok := owner[id]; ok && other != j {
				t.Errorf("%d is the number of sets %d and %d", id, other, j)
			}
			owner[id] = j
		}
	}
	if len(c.entries) != sets {
		t.Errorf("%d entries were made for %d sets", len(c.entries), sets)
	}
}

func TestKnownSetAsksNobody(t *testing.T) {
	c := newCluster()
	a := NewAllocator(NewNumbers(), c)
	first := get(t, a, set("a"))
	c.fail = errors.New("the API server is away")
	if again := get(t, a, set("a")); again != first || c.creates != 1 {
		t.Errorf("got %d after %d, with %d creates", again, first, c.creates)
	}
	if _, err := a.Get(t.Context(), set("b")); !errors.Is(err, c.fail) {
		t.Errorf("a new set without API server: %v", err)
	}
}

// silent is a store that does not answer.
type silent struct{ asked chan struct{} }

func (s silent) Create(ctx context.Context, _ ID, _ Set) error {
	s.asked <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

func (s silent) Read(context.Context, ID) (Entry, error) { return Entry{}, ErrNone }

// TestNobodyWaitsForTheTimeOfOthers: who has less time than the one who makes a number just now gives up when it is over.
func TestNobodyWaitsForTheTimeOfOthers(t *testing.T) {
	store := silent{asked: make(chan struct{}, 1)}
	a := NewAllocator(NewNumbers(), store)
	patient, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { _, _ = a.Get(patient, set("a")) })
	<-store.asked
	hasty, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	gaveUp := make(chan error, 1)
	wg.Go(func() {
		_, err := a.Get(hasty, set("b"))
		gaveUp <- err
	})
	select {
	case err := <-gaveUp:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it got %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it still waits long after its time is over")
	}
}

// TestNumberOfAnotherSet: the number that the labels begin with is taken, by a live entry, by a retired one, by one that
// this agent does not know.
func TestNumberOfAnotherSet(t *testing.T) {
	want, long := get(t, NewAllocator(NewNumbers(), newCluster()), set("a")), time.Now().Add(-time.Hour)
	for name, taken := range map[string]Entry{
		"live": {ID: want, Set: set("b")}, "retired": {ID: want, Set: set("b"), UnusedSince: long}, "its own, retired": {ID: want, Set: set("a"), UnusedSince: long},
	} {
		for _, known := range []bool{true, false} {
			a := NewAllocator(NewNumbers(), newCluster(taken))
			if known {
				a.Numbers.Put(taken)
			}
			if got := get(t, a, set("a")); got == want {
				t.Errorf("%s (known: %v): the set got %d", name, known, got)
			}
			if e, _ := a.Numbers.Get(want); e.Set.Key() != taken.Set.Key() {
				t.Errorf("%s (known: %v): %d is now that of %+v", name, known, want, e.Set)
			}
		}
	}
	other := Entry{ID: want, Set: set("a")}
	if got := get(t, NewAllocator(NewNumbers(), newCluster(other)), set("a")); got != want {
		t.Errorf("of a set that another agent has made the number of, got %d, want %d", got, want)
	}
}

// TestLowestOfTwo: of two numbers of a set all agents take the lower, and none that is retired.
func TestLowestOfTwo(t *testing.T) {
	n := NewNumbers()
	a := NewAllocator(n, newCluster())
	for _, e := range []Entry{{ID: 900, Set: set("a")}, {ID: 300, Set: set("a")}, {ID: 400, Set: set("b")}} {
		n.Put(e)
	}
	if got := get(t, a, set("a")); got != 300 {
		t.Errorf("got %d, want 300", got)
	}
	n.Put(Entry{ID: 300, Set: set("a"), UnusedSince: time.Now()})
	if got := get(t, a, set("a")); got != 300 {
		t.Errorf("when 300 is not used for a moment, got %d", got)
	}
	n.Put(Entry{ID: 300, Set: set("a"), UnusedSince: time.Now().Add(-retiredAfter)})
	if got := get(t, a, set("a")); got != 900 {
		t.Errorf("when 300 is retired, got %d, want 900", got)
	}
	n.Delete(900)
	if got := get(t, a, set("a")); got == 300 || got == 900 || got == 400 {
		t.Errorf("without a live one, got %d", got)
	}
}

func TestUsedUp(t *testing.T) {
	n := NewNumbers()
	for id := FirstPod; id <= LastPod; id++ {
		n.Put(Entry{ID: id, Set: set(id.String())})
	}
	a := NewAllocator(n, newCluster())
	if _, err := a.Get(t.Context(), set("one more")); !errors.Is(err, ErrUsedUp) {
		t.Errorf("got %v", err)
	}
	n.Delete(700)
	if got := get(t, a, set("one more")); got != 700 {
		t.Errorf("got %d, want the only free one", got)
	}
}
