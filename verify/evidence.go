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
	cells []Cell
}

// Cell is one cell of the path table: what was seen of one kind of traffic at
// one point of its way, and what is to be seen there in the lab's mode.
type Cell struct {
	Row    string `json:"row"`
	Column string `json:"column"`
	Seen   string `json:"seen"`
	Want   string `json:"want"`
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

// Contradicts tells whether an observation contradicts the claim.
func (e *Evidence) Contradicts() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.wrong) > 0
}

// Add takes over the observations of other, which nobody adds to any more.
func (e *Evidence) Add(other *Evidence) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = append(e.seen, other.seen...)
	e.wrong = append(e.wrong, other.wrong...)
}

// Cell records a cell of the path table, for the report to print. It is no
// evidence: what speaks for or against the claim goes to Saw and Wrong.
func (e *Evidence) Cell(row, column, seen, want string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := (Cell{row, column, seen, want}); !slices.Contains(e.cells, c) {
		e.cells = append(e.cells, c)
	}
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
	r := Result{Name: c.Name, Claim: c.Claim, Seen: slices.Sorted(slices.Values(e.seen)), Wrong: slices.Sorted(slices.Values(e.wrong)), Cells: e.cells}
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
