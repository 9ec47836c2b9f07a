package bench

import (
	"errors"
	"fmt"
)

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
