package bench

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
)

// Summary is what several rounds say about one number.
type Summary struct {
	Median float64 `json:"median"`
	// Q1 and Q3 are the quartiles: half of all rounds are between them.
	Q1 float64 `json:"q1"`
	Q3 float64 `json:"q3"`
	// N is how many rounds there were.
	N int `json:"n"`
}

// Summarize needs no order and leaves values as they are. Of no values it makes NaNs.
func Summarize(values ...float64) Summary {
	return Summary{Median: Quantile(values, 0.5), Q1: Quantile(values, 0.25), Q3: Quantile(values, 0.75), N: len(values)}
}

// Quantile is the value that the part q of all values is below, between the two nearest. Of no values it is NaN.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

// MarshalJSON writes null for a summary of nothing.
func (s Summary) MarshalJSON() ([]byte, error) {
	type plain Summary
	if s.N == 0 {
		return []byte("null"), nil
	}
	return json.Marshal(plain(s))
}

func (s Summary) String() string {
	if s.N == 1 {
		return number(s.Median)
	}
	return fmt.Sprintf("%s [%s, %s] n=%d", number(s.Median), number(s.Q1), number(s.Q3), s.N)
}

// number writes v with about three digits.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case v == math.Trunc(v) && math.Abs(v) < 1e6:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3f", v)
}
