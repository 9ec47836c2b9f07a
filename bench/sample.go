package bench

import (
	"time"

	"wirelab.dev/wirelab/bench/workload"
)

// Sample is one session's result, in its place in the order of all, with the conditions it was taken in.
type Sample struct {
	Time  time.Time `json:"time"`
	Suite string    `json:"suite"`
	Arm   string    `json:"arm"`
	// Round counts from 0, on over the setups of a run. A reference belongs to the round it was taken in.
	Round int `json:"round"`
	// Reference says that the sample is not a result but what results are divided by.
	Reference bool            `json:"reference"`
	Result    workload.Result `json:"result"`
	// Relative is the arm's cost divided by that of the two references nearest in time; 0 for references.
	Relative float64 `json:"relative,omitempty"`
	// Error says why there is no result. Such a sample counts as a failure, not as missing.
	Error      string     `json:"error,omitempty"`
	Conditions Conditions `json:"conditions"`
	// Programs are the instructions, as the kernel runs them, of the programs in the arm's way.
	Programs map[string]int `json:"programs,omitempty"`
}

// relate fills in what each sample of one suite is relative to its references. Samples are in order of time.
func relate(samples []Sample) {
	for i := range samples {
		s := &samples[i]
		if s.Reference || s.Error != "" {
			continue
		}
		if ref := nearest(samples, i); ref > 0 {
			s.Relative = s.Result.Cost() / ref
		}
	}
}

// nearest is the mean cost of the two references nearest in time to sample i; 0 when there is none.
func nearest(samples []Sample, i int) float64 {
	var best [2]struct {
		away time.Duration
		cost float64
	}
	found := 0
	for _, r := range samples {
		if !r.Reference || r.Error != "" {
			continue
		}
		away, cost := r.Time.Sub(samples[i].Time).Abs(), r.Result.Cost()
		switch {
		case found == 0 || away < best[0].away:
			best[1] = best[0]
			best[0].away, best[0].cost = away, cost
		case found == 1 || away < best[1].away:
			best[1].away, best[1].cost = away, cost
		}
		found++
	}
	switch found {
	case 0:
		return 0
	case 1:
		return best[0].cost
	}
	return (best[0].cost + best[1].cost) / 2
}
