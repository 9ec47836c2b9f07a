package verify

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
)

// Evidence collects what a check saw. It may be used from several goroutines.
type Evidence struct {
	mu    sync.Mutex
	seen  []string
	wrong []Finding
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

// Finding is an observation that contradicts a claim: of what, what was wanted,
// and what was seen in its place.
type Finding struct {
	About string `json:"about"`
	Want  string `json:"want"`
	Seen  string `json:"seen"`
}

// String writes f as one line.
func (f Finding) String() string { return f.About + ": want " + f.Want + ", seen: " + f.Seen }

// Saw records an observation that agrees with the claim.
func (e *Evidence) Saw(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = append(e.seen, fmt.Sprintf(format, args...))
}

// Wrong records an observation that contradicts the claim; one is enough for
// the check to fail. seen is what there was, in words that would be false if
// want were so.
func (e *Evidence) Wrong(about, want, seen string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.wrong = append(e.wrong, Finding{about, want, seen})
}

// Expect records the observation as Saw when ok, as Wrong otherwise, and
// returns ok. seen is what there was, whether ok or not.
func (e *Evidence) Expect(ok bool, about, want, seen string) bool {
	if ok {
		e.Saw("%s: %s", about, seen)
	} else {
		e.Wrong(about, want, seen)
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

// result turns the evidence into a verdict. A check that neither failed to
// look nor saw anything has proved nothing, which is an error.
func (e *Evidence) result(c Check, err error) Result {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := Result{Name: c.Name, Claim: c.Claim, Seen: slices.Sorted(slices.Values(e.seen)), Wrong: slices.SortedFunc(slices.Values(e.wrong), compareFindings), Cells: e.cells}
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

func compareFindings(a, b Finding) int {
	return cmp.Or(cmp.Compare(a.About, b.About), cmp.Compare(a.Seen, b.Seen), cmp.Compare(a.Want, b.Want))
}
