package bench

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Measure says what is compared of two arms.
type Measure int

const (
	// Speed is how many operations one does in the time of one of the other's: the inverse of their costs.
	Speed Measure = iota
	// Cost is what an operation or a byte takes.
	Cost
	// Overhead is what an operation or a byte takes beyond the reference's: 0 is a bare wire.
	Overhead
)

// Comparison is a goal about two arms of a suite.
type Comparison struct {
	Goal
	Suite string
	// Of is divided by By. An empty By is the reference, which has no overhead.
	Of, By string
	As     Measure
}

// Row judges the comparison by the samples of a run.
func (c Comparison) Row(samples []Sample) Row {
	of, err := costsByRound(samples, c.Suite, c.Of)
	if err != nil {
		return c.Fail(err)
	}
	by := map[int]float64{}
	if c.By == "" {
		for round := range of {
			by[round] = 1
		}
	} else if by, err = costsByRound(samples, c.Suite, c.By); err != nil {
		return c.Fail(err)
	}
	var ofs, bys []float64
	for _, round := range slices.Sorted(maps.Keys(of)) {
		if divisor, ok := by[round]; ok {
			ofs, bys = append(ofs, of[round]), append(bys, divisor)
		}
	}
	s, err := c.As.compare(ofs, bys)
	if err != nil {
		return c.Fail(fmt.Errorf("%s: %s by %s: %w", c.Suite, c.Of, c.By, err))
	}
	return c.Judge(s, "")
}

// errNoOverhead says that a path is as good as the reference, so that no share of what it costs can be given.
var errNoOverhead = errors.New("there is no overhead to have a share of")

// compare sums up what ofs are to bys, costs by the reference's, which belong to the same rounds. Overheads are
// divided by the median of the other's: it may be next to nothing in a single round.
func (m Measure) compare(ofs, bys []float64) (Summary, error) {
	theirs := Summarize(bys...).Median - 1
	if m == Overhead && theirs <= 0 {
		return Summary{}, errNoOverhead
	}
	var ratios []float64
	for i, of := range ofs {
		switch m {
		case Speed:
			ratios = append(ratios, bys[i]/of)
		case Cost:
			ratios = append(ratios, of/bys[i])
		case Overhead:
			ratios = append(ratios, (of-1)/theirs)
		}
	}
	return Summarize(ratios...), nil
}

// costsByRound are the arm's relative costs. A failed sample is an error: a path that works now and then has not
// the speed of the times when it did.
func costsByRound(samples []Sample, suite, arm string) (map[int]float64, error) {
	costs := map[int]float64{}
	for _, s := range samples {
		if s.Suite != suite || s.Arm != arm || s.Reference {
			continue
		}
		if s.Error != "" {
			return nil, fmt.Errorf("%s: %s: %s", s.Suite, arm, s.Error)
		}
		if s.Relative > 0 {
			costs[s.Round] = s.Relative
		}
	}
	if len(costs) == 0 {
		return nil, fmt.Errorf("%s: there are no samples of %s", suite, arm)
	}
	return costs, nil
}
