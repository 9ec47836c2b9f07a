package verify

import (
	"io"
	"time"
)

// Report is a run's outcome. Results are in the order of the checks.
type Report struct {
	Lab     string    `json:"lab"`
	Mode    string    `json:"mode"`
	Started time.Time `json:"started"`
	// Setup is how long it took until the first check ran, Duration the whole
	// run with its cleanup. In JSON both are in nanoseconds.
	Setup    time.Duration `json:"setupNs"`
	Duration time.Duration `json:"durationNs"`
	Results  []Result      `json:"results"`
}

// Passed tells whether every check passed. A report without results has not.
func (r *Report) Passed() bool {
	for _, result := range r.Results {
		if result.Status != Pass {
			return false
		}
	}
	return len(r.Results) > 0
}

// Count returns how many results have the status.
func (r *Report) Count(status Status) int {
	n := 0
	for _, result := range r.Results {
		if result.Status == status {
			n++
		}
	}
	return n
}

// WriteText writes a table of at most 100 columns, with what did not pass first.
// What speaks against a claim follows it, and when verbose what speaks for it.
func (r *Report) WriteText(w io.Writer, verbose bool) error { return writeText(w, r, verbose) }

// WriteJSON writes the report as one indented JSON object.
func (r *Report) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

// WriteJUnit writes one JUnit test suite, a test case a check.
func (r *Report) WriteJUnit(w io.Writer) error { return writeJUnit(w, r) }
