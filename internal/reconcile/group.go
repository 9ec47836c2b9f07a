package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"wirelab.dev/wirelab/internal/api"
)

// Group is the reconcilers of one daemon.
type Group []*Reconciler

// Run runs all of them until ctx is done, and waits for each.
func (g Group) Run(ctx context.Context) error {
	eg, ctx := errgroup.WithContext(ctx)
	for _, r := range g {
		eg.Go(func() error { return r.Run(ctx) })
	}
	return eg.Wait()
}

// Pause pauses those with the given names. An unknown name is an error, and
// then none is paused.
func (g Group) Pause(until time.Time, names ...string) error {
	return g.each(names, func(r *Reconciler) { r.Pause(until) })
}

// Resume ends the pauses of those with the given names.
func (g Group) Resume(names ...string) error {
	return g.each(names, (*Reconciler).Resume)
}

func (g Group) each(names []string, f func(*Reconciler)) error {
	byName := map[string]*Reconciler{}
	for _, r := range g {
		byName[r.name] = r
	}
	for _, name := range names {
		if byName[name] == nil {
			return fmt.Errorf("there is no reconciler %q: use %s", name, strings.Join(slices.Sorted(maps.Keys(byName)), ", "))
		}
	}
	for _, name := range names {
		f(byName[name])
	}
	return nil
}

// Health returns a snapshot of each, sorted by name.
func (g Group) Health() []api.Reconciler {
	hs := make([]api.Reconciler, len(g))
	for i, r := range g {
		hs[i] = r.Health()
	}
	slices.SortFunc(hs, func(a, b api.Reconciler) int { return cmp.Compare(a.Name, b.Name) })
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
