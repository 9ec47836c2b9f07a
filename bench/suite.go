// Package bench compares network paths on a machine that is not quiet.
//
// Everything that is compared exists at once. In each round all arms of a suite are measured in a new order,
// with a reference before every fourth sample and at the end, and each result is divided by the two
// references nearest to it in time: what disturbs the machine for longer than these samples take disturbs both. The
// reference is an arm too, by another name (A/A): where that is not 1, the run proves nothing.
package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"wirelab.dev/wirelab/bench/workload"
)

// Arm is one path to measure.
type Arm struct {
	Name string
	// Measure takes one sample.
	Measure func() (workload.Result, error)
	// MTU and Offloads are of the path's first device, Programs the instructions of the programs in it.
	MTU      int
	Offloads string
	Programs map[string]int
}

// Suite is a workload on several paths.
type Suite struct {
	Name string
	// Reference is what the others are divided by.
	Reference Arm
	// Arms contain the reference a second time, by the name [SameAgain].
	Arms []Arm
}

// SameAgain is the reference under a second name.
const SameAgain = "A/A"

// referenceEvery is how many samples share a reference before them.
const referenceEvery = 4

// Runner takes samples.
type Runner struct {
	// Rounds is how often each arm is measured, First the number of the first round.
	Rounds, First int
	// Random shuffles the rounds.
	Random *rand.Rand
	// CPU is where the workloads are pinned; it is for the conditions.
	CPU int
	// Progress, if set, is called before every sample.
	Progress func(suite string, done, of int)
}

// Run measures one suite and returns its samples in order of time. A sample that fails is recorded and does
// not end the suite; only ctx does.
func (r Runner) Run(ctx context.Context, s Suite) ([]Sample, error) {
	var samples []Sample
	perRound := len(s.Arms) + (len(s.Arms)+referenceEvery-1)/referenceEvery
	total := r.Rounds*perRound + 1
	take := func(round int, arm Arm, reference bool) error {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("measure %s: %w", s.Name, context.Cause(ctx))
		}
		if r.Progress != nil {
			r.Progress(s.Name, len(samples), total)
		}
		sample, err := r.take(arm)
		if err != nil {
			return err
		}
		sample.Suite, sample.Round, sample.Reference = s.Name, round, reference
		samples = append(samples, sample)
		return nil
	}
	for round := r.First; round < r.First+r.Rounds; round++ {
		for i, at := range r.Random.Perm(len(s.Arms)) {
			if i%referenceEvery == 0 {
				if err := take(round, s.Reference, true); err != nil {
					return samples, err
				}
			}
			if err := take(round, s.Arms[at], false); err != nil {
				return samples, err
			}
		}
	}
	if err := take(r.First+r.Rounds-1, s.Reference, true); err != nil {
		return samples, err
	}
	relate(samples)
	return samples, nil
}

// take measures an arm once, and the machine meanwhile. An error is about the machine.
func (r Runner) take(arm Arm) (Sample, error) {
	before, err := readMachine()
	if err != nil {
		return Sample{}, err
	}
	s := Sample{Arm: arm.Name, Programs: arm.Programs}
	result, failure := arm.Measure()
	after, err := readMachine()
	if err != nil {
		return Sample{}, err
	}
	s.Time = before.at.Add(after.at.Sub(before.at) / 2)
	s.Result = result
	if failure != nil {
		s.Error = failure.Error()
	}
	s.Conditions = conditionsBetween(before, after, r.CPU)
	s.Conditions.MTU, s.Conditions.Offloads = arm.MTU, arm.Offloads
	return s, nil
}

// Now is the default source of order; a run that is repeated is shuffled in another way.
func Now() *rand.Rand {
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any number will do
	return rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // nothing secret
}
