package labs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/gather"
)

// ErrPartly says that some nodes were not watched, or not to the end. Which they are has been said.
var ErrPartly = errors.New("not all nodes were watched")

// refusal is why a node cannot do what it is asked for, which is the fault of who asks: others are not watched without it.
type refusal struct{ error }

// watch has nodes watched at once, and what they see put in the order of time.
type watch[T any] struct {
	lab   *Lab
	nodes []cluster.Node
	who   string // tells what a node sees, such as "its agent"
	whom  string // are waited for at first, such as "the agents of lab x"
	// patience is how long they are; 0: beginTimeout.
	patience time.Duration
	// stream hands on what a node tells until ctx ends, and returns why it ended before.
	stream func(ctx context.Context, n cluster.Node, each func(line[T]) error) error
	// begin is called once with the nodes that are watched, by what follows the lab's name, before anything is emitted.
	begin func(nodes []string) error
	say   func(string)
	// while is run when the nodes are watched; nil: nothing is. What is seen meanwhile is what counts then, and the end of
	// it the end of the watch.
	while func(context.Context)
	// toTheEnd has what was seen before ctx ended emitted, too.
	toTheEnd bool
	emit     func(T) error
	// most is what may be held until it is in order, as weigh weighs it; zero and nil: maxHeld sights.
	most  int
	weigh func(T) int

	merged   *merger[T]
	failures []error // by node, as nodes has them
}

// sent is what comes from a node: a line, or why there are no more.
type sent[T any] struct {
	node string
	line line[T]
	over error
}

// watch ends with while, or with ctx, which is no error unless while has not begun by then, or when emit fails. A node that
// cannot be watched is said, and the error at the end is [ErrPartly]; the others are watched all the same.
func (w *watch[T]) watch(ctx context.Context) error {
	// What while did just before an interrupt counts, too, so streams do not end with ctx.
	streaming, stop := context.WithCancel(context.WithoutCancel(ctx))
	var streams sync.WaitGroup
	defer streams.Wait()
	defer stop()
	from := make(chan sent[T])
	for _, n := range w.nodes {
		streams.Go(func() {
			hand := func(s sent[T]) error {
				s.node = n.Name
				select {
				case from <- s:
					return nil
				case <-streaming.Done():
					return streaming.Err()
				}
			}
			err := errors.New(n.Down())
			if n.Down() == "" {
				err = w.stream(streaming, n, func(told line[T]) error { return hand(sent[T]{line: told}) })
			}
			_ = hand(sent[T]{over: err})
		})
	}
	w.reset()
	if err := w.join(ctx, from); err != nil || ctx.Err() != nil && w.while == nil {
		return err
	}
	err := w.run(ctx, from)
	if err == nil && w.failed() != nil {
		err = ErrPartly
	}
	return err
}

func (w *watch[T]) reset() {
	w.merged, w.failures = newMerger(cmp.Or(w.most, maxHeld), w.weigh), make([]error, len(w.nodes))
}

// take takes what came from a node, and says whether it was its end.
func (w *watch[T]) take(s sent[T]) (over bool) {
	i := slices.IndexFunc(w.nodes, func(n cluster.Node) bool { return n.Name == s.node })
	switch {
	case w.failures[i] != nil: // it has been given up
		return false
	case s.over == nil:
		w.merged.add(s.node, s.line, time.Now())
		return false
	}
	w.merged.remove(s.node)
	w.failures[i] = s.over
	return true
}

// join waits until every node has begun to tell, or cannot be watched, which it says. No node at all is an error, and so is
// one that refuses. ctx may end it early.
func (w *watch[T]) join(ctx context.Context, from <-chan sent[T]) error {
	defer telling(w.lab.say, "waiting for "+w.whom)()
	patience := cmp.Or(w.patience, beginTimeout)
	late := time.After(patience)
	heard := map[string]bool{}
	for len(heard) < len(w.nodes) {
		select {
		case s := <-from:
			w.take(s)
			heard[s.node] = true
		case <-late:
			for i, n := range w.nodes {
				if !heard[n.Name] {
					heard[n.Name] = true
					w.failures[i] = fmt.Errorf("%s does not answer within %s", w.who, patience)
				}
			}
		case <-ctx.Done():
			return nil
		}
	}
	var watched []string
	for i, n := range w.nodes {
		var no refusal
		switch err := w.failures[i]; {
		case err == nil:
			watched = append(watched, strings.TrimPrefix(n.Name, w.lab.Name+"-"))
		case errors.As(err, &no):
			return fmt.Errorf("node %s: %w", n.Name, no)
		}
	}
	if len(watched) == 0 {
		return w.failed()
	}
	for i, err := range w.failures {
		if err != nil {
			w.say(fmt.Sprintf("node %s is not watched: %v", w.nodes[i].Name, err))
		}
	}
	return w.begin(watched)
}

// failed is why nodes are not watched, each of them.
func (w *watch[T]) failed() error {
	var out []error
	for i, err := range w.failures {
		if err != nil {
			out = append(out, fmt.Errorf("node %s: %w", w.nodes[i].Name, err))
		}
	}
	return errors.Join(out...)
}

// run emits what is seen until there is an end.
func (w *watch[T]) run(ctx context.Context, from <-chan sent[T]) error {
	end := ctx.Done()
	var began, ended time.Time
	over := make(chan struct{})
	if w.while != nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		end = nil // while is told, and ends
		began = time.Now()
		go func() {
			defer close(over)
			w.while(ctx)
		}()
	}
	again := time.NewTicker(gather.Silence / 10) // to see who is silent
	defer again.Stop()
	var failed error
	for {
		select {
		case s := <-from:
			if w.take(s) {
				w.say(fmt.Sprintf("node %s is watched no more: %v", s.node, s.over))
			}
		case <-again.C:
		case <-over:
			over, ended = nil, time.Now()
		case <-end:
			if !w.toTheEnd {
				return nil
			}
			end, ended = nil, time.Now()
		}
		now := time.Now()
		for _, s := range w.merged.take(now) {
			if failed == nil && !s.at.Before(began) && (ended.IsZero() || !s.at.After(ended)) {
				failed = w.emit(s.seen)
			}
		}
		told := w.merged.upTo(now)
		switch {
		case failed != nil && (w.while == nil || !ended.IsZero()):
			return failed
		case !ended.IsZero() && (told.IsZero() || told.After(ended) || now.Sub(ended) > gather.Silence):
			return nil
		case len(w.merged.nodes) == 0 && w.while == nil:
			return nil // what failed says why
		}
	}
}
