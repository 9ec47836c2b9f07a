package identity

import (
	"hash/fnv"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"
)

// Rest is how long no node has had a number when it is deleted, and free for another set. The next rollout wants it again.
const Rest = 10 * time.Minute

// retiredAfter is how long no node has had a number that no pod gets any more. In what is left of [Rest] every agent that
// hears of changes has said of its pods that they have the number, if they got it just before, which keeps it from being
// deleted.
const retiredAfter = Rest - 2*time.Minute

// Entry is one number and its set, as the cluster has it.
type Entry struct {
	ID  ID
	Set Set
	// UnusedSince is since when no node has had the number; the zero Time while one has it, or nobody has looked.
	UnusedSince time.Time
}

// Retired says whether no pod gets the number any more, as it is about to be deleted.
func (e Entry) Retired(now time.Time) bool {
	return !e.UnusedSince.IsZero() && now.Sub(e.UnusedSince) >= retiredAfter
}

// Numbers are the entries that are known, by number and by set. It is safe for concurrent use.
type Numbers struct {
	mu    sync.RWMutex
	byID  map[ID]Entry
	bySet map[string][]ID // sorted
	last  ID
	now   func() time.Time
}

// NewNumbers knows none.
func NewNumbers() *Numbers {
	return &Numbers{byID: map[ID]Entry{}, bySet: map[string][]ID{}, last: LastPod, now: time.Now}
}

// Put adds or changes an entry, and says whether anything is another now.
func (n *Numbers) Put(e Entry) (changed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	had, ok := n.byID[e.ID]
	if ok && had.UnusedSince.Equal(e.UnusedSince) && had.Set.Key() == e.Set.Key() {
		return false
	}
	n.drop(e.ID)
	n.byID[e.ID] = e
	key := e.Set.Key()
	ids := append(n.bySet[key], e.ID)
	slices.Sort(ids)
	n.bySet[key] = ids
	return true
}

// Delete forgets a number.
func (n *Numbers) Delete(id ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop(id)
}

func (n *Numbers) drop(id ID) {
	had, ok := n.byID[id]
	if !ok {
		return
	}
	delete(n.byID, id)
	key := had.Set.Key()
	ids := slices.DeleteFunc(n.bySet[key], func(other ID) bool { return other == id })
	if n.bySet[key] = ids; len(ids) == 0 {
		delete(n.bySet, key)
	}
}

// Of is the number of a set. Of several, which two agents may have made at a time, it is the lowest that is not retired,
// on every node.
func (n *Numbers) Of(s Set) (ID, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	now := n.now()
	for _, id := range n.bySet[s.Key()] {
		if !n.byID[id].Retired(now) {
			return id, true
		}
	}
	return Unknown, false
}

// Get is the entry with that number.
func (n *Numbers) Get(id ID) (Entry, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	e, ok := n.byID[id]
	return e, ok
}

// Count is how many there are.
func (n *Numbers) Count() int {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return len(n.byID)
}

// All are the entries, sorted by number.
func (n *Numbers) All() []Entry {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return slices.SortedFunc(maps.Values(n.byID), func(a, b Entry) int { return int(a.ID) - int(b.ID) })
}

// free are the numbers that a set may get, of those that no known entry has. It begins where the set's labels say: two
// agents that ask for the same set at a time try the same name, which only one of them can make.
func (n *Numbers) free(s Set) iter.Seq[ID] {
	count := uint32(n.last - FirstPod + 1)
	h := fnv.New32a()
	h.Write([]byte(s.Key()))
	start := h.Sum32() % count
	return func(yield func(ID) bool) {
		for i := range count {
			id := FirstPod + ID((start+i)%count)
			if _, taken := n.Get(id); !taken && !yield(id) {
				return
			}
		}
	}
}
