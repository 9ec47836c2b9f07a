package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Want is something that must become true before a lab is ready.
type Want struct {
	// Name is what a person calls it: "agent", "node lab-worker".
	Name string
	// Look says how things stand. An error means that it was not able to look; it is tried again.
	Look func(ctx context.Context) (State, error)
}

// State is how a [Want] stands.
type State struct {
	Ready bool
	// Why says what is missing; empty when Ready.
	Why string
	// Blame is the object that keeps it from being ready; its zero value when there is none to name.
	Blame Object
}

// Object names a Kubernetes object of which events can be asked.
type Object struct{ Kind, Namespace, Name string }

func (o Object) String() string {
	if o.Namespace == "" {
		return strings.ToLower(o.Kind) + " " + o.Name
	}
	return strings.ToLower(o.Kind) + " " + o.Namespace + "/" + o.Name
}

// pollEvery is the pause between two looks; a look is one or two requests to an API server on this machine.
const pollEvery = 200 * time.Millisecond

// lookDeadline bounds one look.
const lookDeadline = 10 * time.Second

// WaitFor waits until every want holds at the same time, or until timeout has passed; then the error is a
// [*NotReady]. tell, which may be nil, is called with the names still missing whenever they change. It looks again at what is
// missing, and at all wants when nothing is.
func (c *Client) WaitFor(ctx context.Context, timeout time.Duration, tell func(missing []string), wants ...Want) error {
	wctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var told []string
	var last []Problem
	pending := wants
	for {
		now := Look(wctx, pending...)
		if len(now) == 0 {
			if len(pending) == len(wants) {
				return nil
			}
			pending = wants
			continue
		}
		pending = missingOf(wants, now)
		// A look that the deadline cut short says less than the one before it.
		if wctx.Err() == nil || last == nil {
			last = now
		}
		if names := namesOf(now); tell != nil && wctx.Err() == nil && !slices.Equal(names, told) {
			tell(names)
			told = names
		}
		select {
		case <-wctx.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return c.diagnose(ctx, timeout, last)
		case <-time.After(pollEvery):
		}
	}
}

// Look takes one look at every want, all at once, and returns those that do not hold, in the order of wants. It asks for no
// events and logs.
func Look(ctx context.Context, wants ...Want) []Problem {
	states := make([]*Problem, len(wants))
	var all sync.WaitGroup
	for i, w := range wants {
		all.Go(func() {
			lctx, cancel := context.WithTimeout(ctx, lookDeadline)
			defer cancel()
			s, err := w.Look(lctx)
			switch {
			case err != nil:
				states[i] = &Problem{Want: w.Name, Why: err.Error(), err: err}
			case !s.Ready:
				states[i] = &Problem{Want: w.Name, Why: s.Why, Blame: s.Blame}
			}
		})
	}
	all.Wait()
	var out []Problem
	for _, p := range states {
		if p != nil {
			out = append(out, *p)
		}
	}
	return out
}

// missingOf are those of wants that have problems.
func missingOf(wants []Want, ps []Problem) []Want {
	names := namesOf(ps)
	return slices.DeleteFunc(slices.Clone(wants), func(w Want) bool { return !slices.Contains(names, w.Name) })
}

func namesOf(ps []Problem) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.Want
	}
	return out
}

// Problem is a want that did not come true.
type Problem struct {
	Want  string `json:"want"`
	Why   string `json:"why"`
	Blame Object `json:"object"`
	// Events are the object's last ones, oldest first; Logs the last lines of the pod's failing container.
	Events []string `json:"events,omitempty"`
	Logs   []string `json:"logs,omitempty"`
	err    error
}

func (p Problem) sentence() string {
	if p.Blame == (Object{}) {
		return p.Want + ": " + p.Why
	}
	if p.Want == p.Blame.String() {
		return p.Want + " " + p.Why
	}
	return fmt.Sprintf("%s: %s %s", p.Want, p.Blame, p.Why)
}

// NotReady is the error of a wait that timed out.
type NotReady struct {
	Timeout  time.Duration
	Problems []Problem // at least one
}

// Error is one sentence that names the first object at fault.
func (e *NotReady) Error() string {
	s := fmt.Sprintf("not ready after %s: %s", e.Timeout, e.Problems[0].sentence())
	if n := len(e.Problems) - 1; n > 0 {
		s += fmt.Sprintf(" (and %d more)", n)
	}
	return s
}

// Unwrap gives the errors of wants that could not be looked at.
func (e *NotReady) Unwrap() []error {
	var out []error
	for _, p := range e.Problems {
		if p.err != nil {
			out = append(out, p.err)
		}
	}
	return out
}

// Detail is every problem with its events and log lines, for a person to read below the error.
func (e *NotReady) Detail() string {
	var b strings.Builder
	for _, p := range e.Problems {
		fmt.Fprintf(&b, "%s\n", p.sentence())
		section(&b, "events", p.Events)
		section(&b, "last log lines", p.Logs)
	}
	return b.String()
}

func section(b *strings.Builder, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "  %s:\n", title)
	for _, l := range lines {
		fmt.Fprintf(b, "    %s\n", l)
	}
}

// diagnoseDeadline bounds the asking for events and logs after a wait has failed.
const diagnoseDeadline = 15 * time.Second

func (c *Client) diagnose(ctx context.Context, timeout time.Duration, ps []Problem) error {
	dctx, cancel := context.WithTimeout(ctx, diagnoseDeadline)
	defer cancel()
	for i := range ps {
		p := &ps[i]
		if p.Blame == (Object{}) {
			continue
		}
		var evErr, logErr error
		p.Events, evErr = c.Events(dctx, p.Blame, 5)
		if p.Blame.Kind == "Pod" {
			p.Logs, logErr = c.lastWords(dctx, p.Blame, 10)
		}
		// The cluster is in a bad state: what cannot be asked is said, and the rest still shown.
		if err := errors.Join(evErr, logErr); err != nil {
			p.Events = append(p.Events, err.Error())
		}
	}
	return &NotReady{Timeout: timeout, Problems: ps}
}
