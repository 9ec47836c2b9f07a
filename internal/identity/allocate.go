package identity

import (
	"context"
	"errors"
	"fmt"
)

var (
	// ErrTaken says that the number has an entry already.
	ErrTaken = errors.New("the number is taken")
	// ErrNone says that there is no such number.
	ErrNone = errors.New("no such number")
	// ErrUsedUp says that every number has an entry.
	ErrUsedUp = fmt.Errorf("all numbers of identities from %d to %d are in use", FirstPod, LastPod)
)

// Store is where the cluster keeps its identities.
type Store interface {
	// Create makes an entry. Its error is [ErrTaken] when the number has one.
	Create(ctx context.Context, id ID, s Set) error
	// Read asks for the entry as it is now. Its error is [ErrNone] when there is none.
	Read(ctx context.Context, id ID) (Entry, error)
}

// Allocator finds the number of a set, or gives it one. It is safe for concurrent use.
//
// Who creates the name of a number has it, so no number is that of two sets. That a set gets two numbers takes agents
// that know different things: one finds the number that the labels begin with taken, by what another knows to be gone.
// All agents then see both entries and move to the lower one; the other is used by no one and goes.
//
// A number goes when no node has had it for a while. Before that it is retired: nobody gets it any more, and who has it
// gets another. So no number is given to a second set while a pod has it, without a lock between agents and who collects.
type Allocator struct {
	Numbers *Numbers // what is known of the store, kept by a watch; it may be late

	store  Store
	making chan struct{} // holds one who makes a number: pods of one new set start together
}

// NewAllocator makes numbers in store that are not among numbers.
func NewAllocator(numbers *Numbers, store Store) *Allocator {
	return &Allocator{Numbers: numbers, store: store, making: make(chan struct{}, 1)}
}

// Get is the number of a set. It asks the store only for a set that is not known.
func (a *Allocator) Get(ctx context.Context, s Set) (ID, error) {
	if id, ok := a.Numbers.Of(s); ok {
		return id, nil
	}
	select {
	case a.making <- struct{}{}:
		defer func() { <-a.making }()
	case <-ctx.Done():
		return Unknown, fmt.Errorf("wait until another identity is made: %w", ctx.Err())
	}
	if id, ok := a.Numbers.Of(s); ok { // made while this waited
		return id, nil
	}
	for id := range a.Numbers.free(s) {
		err := a.store.Create(ctx, id, s)
		if err == nil {
			a.Numbers.Put(Entry{ID: id, Set: s})
			return id, nil
		}
		if !errors.Is(err, ErrTaken) {
			return Unknown, fmt.Errorf("make identity %d: %w", id, err)
		}
		if mine, err := a.taken(ctx, id, s); mine || err != nil {
			return id, err
		}
	}
	return Unknown, ErrUsedUp
}

// taken looks at an entry that is new to this node, and says whether it is the set's own.
func (a *Allocator) taken(ctx context.Context, id ID, s Set) (mine bool, err error) {
	e, err := a.store.Read(ctx, id)
	if errors.Is(err, ErrNone) {
		return false, nil // gone again; the next number is as good
	}
	if err != nil {
		return false, fmt.Errorf("read identity %d: %w", id, err)
	}
	a.Numbers.Put(e)
	return !e.Retired(a.Numbers.now()) && e.Set.Key() == s.Key(), nil
}
