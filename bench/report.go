package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Report is a run.
type Report struct {
	// Began and Took are when the run was.
	Began time.Time     `json:"began"`
	Took  time.Duration `json:"took_ns"`
	// Machine says where it was.
	Machine string `json:"machine"`
	// Rows are the goals, in the order in which they are shown, and what is for information.
	Rows []Row `json:"goals"`
	// Controls are the outcomes that were known before.
	Controls []ControlRow `json:"controls"`
	Samples  []Sample     `json:"samples"`
}

// Control is a comparison of which the outcome is known: a run in which it is another proves nothing.
type Control struct {
	Comparison
	// Low and High are what the median has to be between.
	Low, High float64
}

// ControlRow is a control and what became of it.
type ControlRow struct {
	What     string  `json:"what"`
	Suite    string  `json:"suite"`
	Low      float64 `json:"low"`
	High     float64 `json:"high"`
	Measured Summary `json:"measured"`
	// Wrong is empty when it came out as it had to, else it says how not.
	Wrong string `json:"wrong,omitempty"`
}

// AddControls checks controls against the samples.
func (r *Report) AddControls(controls ...Control) {
	for _, c := range controls {
		is := c.Row(r.Samples)
		row := ControlRow{What: c.What, Suite: c.Suite, Low: c.Low, High: c.High, Measured: is.Measured}
		switch m := is.Measured.Median; {
		case is.Verdict == NotMeasured:
			row.Wrong = is.Note
		case m < c.Low || m > c.High:
			row.Wrong = fmt.Sprintf("%s: %s is %s, and had to be between %s and %s",
				c.Suite, c.What, number(m), number(c.Low), number(c.High))
		}
		r.Controls = append(r.Controls, row)
	}
}

// AddComparisons judges comparisons by the samples.
func (r *Report) AddComparisons(comparisons ...Comparison) {
	for _, c := range comparisons {
		r.Rows = append(r.Rows, c.Row(r.Samples))
	}
}

// Proves is false when a control came out wrong: then the rows, good or bad, say nothing.
func (r *Report) Proves() bool {
	for _, c := range r.Controls {
		if c.Wrong != "" {
			return false
		}
	}
	return true
}

// Goals are the rows that have a bar.
func (r *Report) Goals() []Row {
	return slices.DeleteFunc(slices.Clone(r.Rows), func(row Row) bool { return row.Verdict == Information })
}

// Missed are the rows whose bar does not hold.
func (r *Report) Missed() []Row {
	var missed []Row
	for _, row := range r.Rows {
		if row.Verdict == BarMissed || row.Verdict == NotMeasured {
			missed = append(missed, row)
		}
	}
	return missed
}

// WriteSamples writes one line of JSON a sample.
func WriteSamples(w io.Writer, samples []Sample) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for _, s := range samples {
		if err := encoder.Encode(s); err != nil {
			return fmt.Errorf("write samples: %w", err)
		}
	}
	return nil
}

// Markdown is the report for people.
func (r *Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s, %d samples in %s.\n", r.Began.UTC().Format("2006-01-02 15:04 UTC"), r.Machine, len(r.Samples), r.Took.Round(time.Second))
	if !r.Proves() {
		b.WriteString("\n**This run proves nothing:** what had to come out did not.\n")
		for _, c := range r.Controls {
			if c.Wrong != "" {
				fmt.Fprintf(&b, "- %s\n", c.Wrong)
			}
		}
	}
	if len(r.Controls) > 0 {
		b.WriteString("\n| control | workload | has to be | is |\n|---|---|---|---|\n")
		for _, c := range r.Controls {
			fmt.Fprintf(&b, "| %s | %s | %s to %s | %s |\n", c.What, c.Suite, number(c.Low), number(c.High), c.Measured)
		}
	}
	b.WriteString("\n| # | goal | bar | aim | measured | verdict |\n|---|---|---|---|---|---|\n")
	for _, row := range r.Goals() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", row.ID, row.What, row.Bar, row.Aim, row.measured(), row.Verdict)
	}
	if len(r.Goals()) < len(r.Rows) {
		b.WriteString("\nFor information; these have no bars, as they carry what all paths of a processor cost:\n")
		b.WriteString("\n| # | ratio | measured |\n|---|---|---|\n")
	}
	for _, row := range r.Rows {
		if row.Verdict == Information {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", row.ID, row.What, row.measured())
		}
	}
	b.WriteString("\n" + r.arms())
	return b.String()
}

// measured is the row's numbers and note.
func (r Row) measured() string {
	if r.Measured.N == 0 {
		return r.Note
	}
	if r.Note == "" {
		return r.Measured.String()
	}
	return r.Measured.String() + "; " + r.Note
}

// arms is the table of everything that was sampled.
func (r *Report) arms() string {
	type key struct{ suite, arm string }
	var order []key
	relative, cost := map[key][]float64{}, map[key][]float64{}
	var failures []string
	for _, s := range r.Samples {
		k := key{s.Suite, s.Arm}
		if s.Error != "" {
			failures = append(failures, fmt.Sprintf("- %s, %s: %s\n", s.Suite, s.Arm, s.Error))
			continue
		}
		if s.Reference {
			k.arm += " (reference)"
		}
		if cost[k] == nil {
			order = append(order, k)
		}
		cost[k] = append(cost[k], s.Result.Cost())
		if s.Relative > 0 {
			relative[k] = append(relative[k], 1/s.Relative)
		}
	}
	var b strings.Builder
	if len(order) > 0 {
		b.WriteString("| workload | path | µs an operation, or ns CPU a KiB | speed by the reference's |\n|---|---|---|---|\n")
	}
	for _, k := range order {
		c := Summarize(cost[k]...).Median
		if k.suite != "tcp_stream" {
			c /= 1000
		}
		speed := "1"
		if relative[k] != nil {
			speed = Summarize(relative[k]...).String()
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", k.suite, k.arm, number(c), speed)
	}
	if len(failures) > 0 {
		b.WriteString("\nSamples that failed:\n\n" + strings.Join(failures, ""))
	}
	return b.String()
}
