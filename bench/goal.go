package bench

import (
	"errors"
	"fmt"
)

// Bound is a limit that a number has to keep.
type Bound struct {
	// AtLeast says that larger numbers are better.
	AtLeast bool    `json:"at_least"`
	Value   float64 `json:"value"`
}

// AtLeast and AtMost are bounds from below and from above.
func AtLeast(v float64) Bound { return Bound{AtLeast: true, Value: v} }

// AtMost is a bound from above.
func AtMost(v float64) Bound { return Bound{Value: v} }

func (b Bound) holds(v float64) bool {
	if b.AtLeast {
		return v >= b.Value
	}
	return v <= b.Value
}

func (b Bound) String() string {
	if b.AtLeast {
		return "≥ " + number(b.Value)
	}
	return "≤ " + number(b.Value)
}

// Goal is one number that this project promises.
type Goal struct {
	// ID is that of the table in docs/performance.md; several numbers may share one.
	ID string `json:"id"`
	// What is measured, in a few words, with its unit unless it is a ratio.
	What string `json:"what"`
	// Bar has to hold. Aim is what the technique can reach.
	Bar Bound `json:"bar"`
	Aim Bound `json:"aim"`
}

// Verdict is what became of a goal.
type Verdict string

const (
	// AimReached is better than the bar asks.
	AimReached Verdict = "aim"
	// BarHolds is as good as promised.
	BarHolds Verdict = "bar"
	// BarMissed is worse.
	BarMissed Verdict = "MISSED"
	// NotMeasured means that measuring failed. It counts as missed.
	NotMeasured Verdict = "FAILED"
	// NotApplicable means that there is nothing yet that could be measured.
	NotApplicable Verdict = "n/a"
)

// Row is a goal and what was measured.
type Row struct {
	Goal
	Measured Summary `json:"measured"`
	Verdict  Verdict `json:"verdict"`
	// Note says under which conditions, or why not.
	Note string `json:"note,omitempty"`
}

// Judge compares the median with the goal.
func (g Goal) Judge(s Summary, note string) Row {
	row := Row{Goal: g, Measured: s, Note: note, Verdict: BarMissed}
	switch {
	case s.N == 0:
		row.Verdict = NotMeasured
	case g.Aim.holds(s.Median):
		row.Verdict = AimReached
	case g.Bar.holds(s.Median):
		row.Verdict = BarHolds
	}
	return row
}

// Fail is the row of a goal that could not be measured.
func (g Goal) Fail(err error) Row {
	return Row{Goal: g, Measured: Summarize(nil), Verdict: NotMeasured, Note: err.Error()}
}

// Absent is the row of a goal for which there is nothing yet.
func (g Goal) Absent(why string) Row {
	return Row{Goal: g, Measured: Summarize(nil), Verdict: NotApplicable, Note: why}
}

// Comparison is a goal about two arms of a suite.
type Comparison struct {
	Goal
	Suite string
	// Of is divided by By, round by round. An empty By is the reference.
	Of, By string
	// Cost compares what operations or bytes cost; otherwise their speed is compared, which is the inverse.
	Cost bool
}

// Row judges the comparison by the samples of a run.
func (c Comparison) Row(samples []Sample) Row {
	of, err := c.rounds(samples, c.Of)
	if err != nil {
		return c.Fail(err)
	}
	by := map[int]float64{}
	if c.By != "" {
		if by, err = c.rounds(samples, c.By); err != nil {
			return c.Fail(err)
		}
	}
	var ratios []float64
	for round, cost := range of {
		divisor, ok := by[round]
		switch {
		case c.By == "":
			divisor = 1
		case !ok:
			continue
		}
		ratio := cost / divisor
		if !c.Cost {
			ratio = 1 / ratio
		}
		ratios = append(ratios, ratio)
	}
	return c.Judge(Summarize(ratios), "")
}

// rounds are the arm's relative costs. A failed sample is an error: a path that works now and then has not
// the speed of the times when it did.
func (c Comparison) rounds(samples []Sample, arm string) (map[int]float64, error) {
	costs := map[int]float64{}
	for _, s := range samples {
		if s.Suite != c.Suite || s.Arm != arm || s.Reference {
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
		return nil, fmt.Errorf("%s: there are no samples of %s", c.Suite, arm)
	}
	return costs, nil
}

// Control is a comparison of which the outcome is known: a run in which it is another proves nothing.
type Control struct {
	Comparison
	// Low and High are what the median has to be between.
	Low, High float64
}

// Check is nil when the control came out as it has to.
func (c Control) Check(samples []Sample) (Summary, error) {
	row := c.Row(samples)
	if row.Verdict == NotMeasured {
		return row.Measured, errors.New(row.Note)
	}
	if m := row.Measured.Median; m < c.Low || m > c.High {
		return row.Measured, fmt.Errorf("%s: %s is %s, and had to be between %s and %s", c.Suite, c.What, number(m), number(c.Low), number(c.High))
	}
	return row.Measured, nil
}
