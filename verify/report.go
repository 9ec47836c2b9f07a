package verify

import (
	"fmt"
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
	// About is what else a reader of the report wants to know of the lab, by words such as "kernel"; may be nil.
	About   map[string]string `json:"about,omitempty"`
	Results []Result          `json:"results"`
	// Skipped are the checks that were not to run, in their order.
	Skipped []Skipped `json:"skipped,omitempty"`
}

// Skipped is a check that was not to run, and why: it says nothing about the lab, or nobody asked for it.
type Skipped struct {
	Name  string `json:"name"`
	Claim string `json:"claim"`
	Why   string `json:"why"`
}

// Passed tells whether every check passed. A report without results has not.
func (r *Report) Passed() bool {
	return len(r.Results) > 0 && r.Count(Pass) == len(r.Results)
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

// Verdict is the report in a few words: "52 checks passed", "2 of 52 checks failed", "1 of 52 checks could not look".
func (r *Report) Verdict() string {
	failed, blind, all := r.Count(Fail), r.Count(Error), len(r.Results)
	switch {
	case failed > 0 && blind > 0:
		return fmt.Sprintf("%d of %d checks failed, and %d could not look", failed, all, blind)
	case failed > 0:
		return fmt.Sprintf("%d of %d checks failed", failed, all)
	case blind > 0:
		return fmt.Sprintf("%d of %d checks could not look", blind, all)
	}
	return fmt.Sprintf("%d checks passed", all)
}
