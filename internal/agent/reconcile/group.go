package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
)

// Group is the reconcilers of one agent.
type Group []*Reconciler

// Run runs all of them until ctx is done, and waits for each.
func (g Group) Run(ctx context.Context) error {
	eg, ctx := errgroup.WithContext(ctx)
	for _, r := range g {
		eg.Go(func() error { return r.Run(ctx) })
	}
	return eg.Wait()
}

// Trigger triggers all of them.
func (g Group) Trigger() {
	for _, r := range g {
		r.Trigger()
	}
}

// Health returns a snapshot of each, sorted by name.
func (g Group) Health() []Health {
	hs := make([]Health, len(g))
	for i, r := range g {
		hs[i] = r.Health()
	}
	slices.SortFunc(hs, func(a, b Health) int { return cmp.Compare(a.Name, b.Name) })
	return hs
}

// Problems says what is wrong with each reconciler that is not healthy, in
// the order of their names. It is empty when all are healthy.
func (g Group) Problems() []string {
	var problems []string
	for _, h := range g.Health() {
		switch {
		case h.Healthy:
		case h.ConsecutiveFailures > 0:
			problems = append(problems, fmt.Sprintf("%s fails: %s", h.Name, h.LastError))
		default:
			problems = append(problems, h.Name+" has not run yet")
		}
	}
	return problems
}
