package verify

import (
	"fmt"
	"slices"
	"sync"
)

// Evidence collects what a check saw. It may be used from several goroutines.
type Evidence struct {
	mu    sync.Mutex
	seen  []string
	wrong []string
}

// Saw records an observation that agrees with the claim.
func (e *Evidence) Saw(format string, args ...any) { e.add(&e.seen, format, args) }

// Wrong records an observation that contradicts the claim; one is enough for
// the check to fail.
func (e *Evidence) Wrong(format string, args ...any) { e.add(&e.wrong, format, args) }

// Expect records the observation as Saw when ok, as Wrong otherwise, and
// returns ok.
func (e *Evidence) Expect(ok bool, format string, args ...any) bool {
	if ok {
		e.Saw(format, args...)
	} else {
		e.Wrong(format, args...)
	}
	return ok
}

func (e *Evidence) add(list *[]string, format string, args []any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	*list = append(*list, fmt.Sprintf(format, args...))
}

// result turns the evidence into a verdict. A check that neither failed to
// look nor saw anything has proved nothing, which is an error.
func (e *Evidence) result(c Check, err error) Result {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := Result{Name: c.Name, Claim: c.Claim, Seen: slices.Sorted(slices.Values(e.seen)), Wrong: slices.Sorted(slices.Values(e.wrong))}
	switch {
	case len(r.Wrong) > 0:
		// Something contradicts the claim, whatever else could not be seen.
		r.Status = Fail
	case err != nil:
		r.Status = Error
	case len(r.Seen) == 0:
		r.Status, r.Error = Error, "the check saw nothing, so it proves nothing"
	default:
		r.Status = Pass
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}
