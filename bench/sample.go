package bench

import (
	"cmp"
	"slices"
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
	var references []Sample
	for _, s := range samples {
		if s.Reference && s.Error == "" {
			references = append(references, s)
		}
	}
	for i := range samples {
		s := &samples[i]
		if s.Reference || s.Error != "" {
			continue
		}
		if ref := nearest(references, s.Time); ref > 0 {
			s.Relative = s.Result.Cost() / ref
		}
	}
}

// nearest is the mean cost of the two references nearest to a time; 0 when there is none. It changes their order.
func nearest(references []Sample, at time.Time) float64 {
	away := func(s Sample) time.Duration { return s.Time.Sub(at).Abs() }
	slices.SortStableFunc(references, func(a, b Sample) int { return cmp.Compare(away(a), away(b)) })
	switch len(references) {
	case 0:
		return 0
	case 1:
		return references[0].Result.Cost()
	}
	return (references[0].Result.Cost() + references[1].Result.Cost()) / 2
}
