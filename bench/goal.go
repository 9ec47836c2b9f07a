package bench

// Bound is a limit that a number has to keep. The zero value is none.
type Bound struct {
	// AtLeast says that larger numbers are better.
	AtLeast bool    `json:"at_least"`
	Value   float64 `json:"value"`
}

// AtLeast is a bound from below.
func AtLeast(v float64) Bound { return Bound{AtLeast: true, Value: v} }

// AtMost is a bound from above.
func AtMost(v float64) Bound { return Bound{Value: v} }

func (b Bound) none() bool { return b == Bound{} }

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
	// Bar has to hold. Aim is what the technique can reach. A number without a bar is for information.
	Bar Bound `json:"bar,omitzero"`
	Aim Bound `json:"aim,omitzero"`
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
	// MachineMissed is worse than the bar for a reason that is the machine's, which the note gives. It does not
	// count as missed.
	MachineMissed Verdict = "machine"
	// NotApplicable means that there is nothing that could be measured.
	NotApplicable Verdict = "n/a"
	// Information is a number that has no bar.
	Information Verdict = "info"
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
	case g.Bar.none():
		row.Verdict = Information
	case g.Aim.holds(s.Median):
		row.Verdict = AimReached
	case g.Bar.holds(s.Median):
		row.Verdict = BarHolds
	}
	return row
}

// JudgeOn is Judge on a machine that may be why a bar does not hold: then because says how that is known, else it
// is empty.
func (g Goal) JudgeOn(s Summary, note, because string) Row {
	row := g.Judge(s, note)
	if row.Verdict == BarMissed && because != "" {
		row.Verdict, row.Note = MachineMissed, because
	}
	return row
}

// Fail is the row of a goal that could not be measured.
func (g Goal) Fail(err error) Row {
	return Row{Goal: g, Measured: Summarize(), Verdict: NotMeasured, Note: err.Error()}
}

// Absent is the row of a goal for which there is nothing.
func (g Goal) Absent(why string) Row {
	return Row{Goal: g, Measured: Summarize(), Verdict: NotApplicable, Note: why}
}
