package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/bench/workload"
)

func TestSummarize(t *testing.T) {
	values := []float64{4, 1, 3, 2, 5}
	if got := Summarize(values...); got != (Summary{Median: 3, Q1: 2, Q3: 4, N: 5}) {
		t.Errorf("odd: %+v", got)
	}
	if values[0] != 4 {
		t.Error("the values were sorted in place")
	}
	if got := Summarize(1, 2, 3, 4); got != (Summary{Median: 2.5, Q1: 1.75, Q3: 3.25, N: 4}) {
		t.Errorf("even: %+v", got)
	}
	if got := Summarize(); got.N != 0 || !math.IsNaN(got.Median) {
		t.Errorf("none: %+v", got)
	}
}

// costs makes an arm that takes so long for an operation.
func costs(name string, cost func() time.Duration) Arm {
	return Arm{Name: name, Measure: func() (workload.Result, error) {
		return workload.Result{Kind: workload.TCPRR, Operations: 1, P50: cost()}, nil
	}}
}

func constantly(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

func run(t *testing.T, rounds int, s Suite) []Sample {
	t.Helper()
	samples, err := Runner{Rounds: rounds, Random: rand.New(rand.NewPCG(1, 2))}.Run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return samples
}

func TestRoundsAreShuffledAmongReferences(t *testing.T) {
	s := Suite{Name: "tcp_rr", Reference: costs("host", constantly(10))}
	names := strings.Fields("a b c d e f")
	for _, name := range names {
		s.Arms = append(s.Arms, costs(name, constantly(20)))
	}
	samples := run(t, 7, s)
	orders := map[string]bool{}
	since, order := 0, ""
	for i, sample := range samples {
		if sample.Reference {
			since = 0
			continue
		}
		if since++; since > referenceEvery {
			t.Errorf("sample %d is the %dth without a reference", i, since)
		}
		if order += sample.Arm; len(order) == len(names) {
			if got := strings.Split(order, ""); !slices.Equal(slices.Sorted(slices.Values(got)), names) {
				t.Errorf("a round is %s", order)
			}
			orders[order], order = true, ""
		}
	}
	if !samples[0].Reference || !samples[len(samples)-1].Reference {
		t.Error("a run begins and ends with a reference")
	}
	if len(orders) < 5 {
		t.Errorf("7 rounds had only %d orders", len(orders))
	}
}

// A machine that becomes slower by and by makes everything slower, and changes no ratio.
func TestDriftCancels(t *testing.T) {
	slow := 1.0
	drifting := func(cost float64) func() time.Duration {
		return func() time.Duration { slow *= 1.004; return time.Duration(cost * slow) }
	}
	s := Suite{Name: "tcp_rr", Reference: costs("host", drifting(100000)), Arms: []Arm{
		costs(SameAgain, drifting(100000)), costs("a", drifting(125000)), costs("b", drifting(250000)), costs("c", drifting(110000)),
	}}
	samples := run(t, 9, s)
	for _, want := range []struct {
		of, by string
		as     Measure
		ratio  float64
	}{
		{SameAgain, "", Speed, 1}, {"a", "", Speed, 0.8}, {"a", "", Cost, 1.25}, {"a", "b", Speed, 2}, {"b", "a", Cost, 2},
		{"a", "b", Overhead, 0.25 / 1.5}, {"b", "a", Overhead, 1.5 / 0.25}, {"b", "b", Overhead, 1},
	} {
		tolerance := 0.02
		if want.as == Overhead {
			tolerance = 0.1 // an overhead is a difference of two costs
		}
		row := Comparison{Goal: Goal{Bar: AtLeast(0), Aim: AtLeast(0)}, Suite: "tcp_rr", Of: want.of, By: want.by, As: want.as}.Row(samples)
		if got := row.Measured.Median; math.Abs(got/want.ratio-1) > tolerance || row.Measured.N != 9 {
			t.Errorf("%s by %s: %+v, want %v", want.of, want.by, row.Measured, want.ratio)
		}
	}
}

func TestNearestReferences(t *testing.T) {
	at := func(second int, cost time.Duration, ref bool) Sample {
		return Sample{Time: time.Unix(int64(second), 0), Reference: ref, Result: workload.Result{P50: cost}}
	}
	samples := []Sample{at(0, 100, true), at(10, 200, true), at(11, 300, false), at(13, 400, true), at(50, 1000, true)}
	relate(samples)
	if got := samples[2].Relative; got != 1 {
		t.Errorf("300 by the mean of 200 and 400 is %v", got)
	}
	if samples[0].Relative != 0 {
		t.Error("a reference is relative to nothing")
	}
	samples[1].Error = "broken"
	relate(samples)
	if got := samples[2].Relative; got != 300/250.0 {
		t.Errorf("a failed reference counts: %v", got)
	}
}

func TestVerdicts(t *testing.T) {
	more := Goal{ID: "P1", Bar: AtLeast(0.8), Aim: AtLeast(0.9)}
	less := Goal{ID: "C1", Bar: AtMost(25), Aim: AtMost(8)}
	one := func(v float64) Summary { return Summarize(v) }
	for _, tc := range []struct {
		goal Goal
		at   Summary
		want Verdict
	}{
		{more, one(0.95), AimReached}, {more, one(0.8), BarHolds}, {more, one(0.79), BarMissed},
		{less, one(8), AimReached}, {less, one(9), BarHolds}, {less, one(26), BarMissed},
		{less, Summarize(), NotMeasured},
	} {
		if got := tc.goal.Judge(tc.at, "").Verdict; got != tc.want {
			t.Errorf("%s at %s: %s, want %s", tc.goal.ID, tc.at, got, tc.want)
		}
	}
}

// Of a path that is as good as the wire there is no share, and whoever has none has a share of 0.
func TestOverheads(t *testing.T) {
	s := Suite{Name: "tcp_rr", Reference: costs("host", constantly(1000)), Arms: []Arm{
		costs("wire", constantly(1000)), costs("ours", constantly(1100)), costs("theirs", constantly(1500)),
	}}
	samples := run(t, 7, s)
	share := func(of, by string) Row {
		return Comparison{Goal: Goal{Bar: AtMost(0.3), Aim: AtMost(0.1)}, Suite: "tcp_rr", Of: of, By: by, As: Overhead}.Row(samples)
	}
	for _, want := range []struct {
		of, by string
		share  float64
		is     Verdict
	}{{"ours", "theirs", 0.2, BarHolds}, {"theirs", "ours", 5, BarMissed}, {"wire", "theirs", 0, AimReached}} {
		row := share(want.of, want.by)
		if math.Abs(row.Measured.Median-want.share) > 1e-9 || row.Verdict != want.is || row.Measured.N != 7 {
			t.Errorf("%s of %s: %+v, want %v", want.of, want.by, row, want.share)
		}
	}
	if row := share("ours", "wire"); row.Verdict != NotMeasured {
		t.Errorf("there is a share of nothing: %+v", row)
	}
}

// What is for information is shown, apart from goals, and cannot be missed; nor can what is the machine's fault.
func TestNumbersThatCannotBeMissed(t *testing.T) {
	at := func(v float64) Summary { return Summarize(v) }
	bar := Goal{ID: "P14", What: "flat", Bar: AtMost(1.2), Aim: AtMost(1)}
	for _, want := range []struct {
		row Row
		is  Verdict
	}{
		{Goal{ID: "P1", What: "ratio"}.Judge(at(0.1), ""), Information},
		{Goal{ID: "P1", What: "ratio"}.Judge(Summarize(), ""), NotMeasured},
		{bar.JudgeOn(at(1.1), "fine", "small cache"), BarHolds},
		{bar.JudgeOn(at(1.3), "fine", "small cache"), MachineMissed},
		{bar.JudgeOn(at(1.3), "fine", ""), BarMissed},
	} {
		if want.row.Verdict != want.is {
			t.Errorf("%+v, want %s", want.row, want.is)
		}
	}
	report := Report{Rows: []Row{bar.JudgeOn(at(1.3), "fine", "small cache"), Goal{ID: "P1", What: "ratio"}.Judge(at(0.25), "")}}
	text := report.Markdown()
	if len(report.Missed()) != 0 || len(report.Goals()) != 1 || !strings.Contains(text, "small cache | machine |") || !strings.Contains(text, "| P1 | ratio | 0.250 |\n") {
		t.Errorf("missed %+v of %+v:\n%s", report.Missed(), report.Goals(), text)
	}
	if out, err := json.Marshal(report.Rows[1]); err != nil || strings.Contains(string(out), "bar\":") {
		t.Errorf("a number without a bar is written with one: %s (%v)", out, err)
	}
}

// What could not be measured must not look as if it were fine.
func TestFailuresAreNotDropped(t *testing.T) {
	broken := Arm{Name: "broken", Measure: func() (workload.Result, error) { return workload.Result{}, errors.New("no way") }}
	s := Suite{Name: "tcp_rr", Reference: costs("host", constantly(100)), Arms: []Arm{broken, costs(SameAgain, constantly(100))}}
	report := Report{Samples: run(t, 3, s)}
	goal := Goal{ID: "P1", What: "x", Bar: AtLeast(0.1), Aim: AtLeast(0.2)}
	report.AddComparisons(
		Comparison{Goal: goal, Suite: "tcp_rr", Of: "broken"},
		Comparison{Goal: goal, Suite: "tcp_rr", Of: SameAgain, By: "broken"},
		Comparison{Goal: goal, Suite: "tcp_rr", Of: "nobody"},
	)
	if got := len(report.Missed()); got != 3 {
		t.Errorf("%d of 3 rows count as missed: %+v", got, report.Rows)
	}
	if text := report.Markdown(); strings.Count(text, "no way") != 5 || !strings.Contains(text, string(NotMeasured)) {
		t.Errorf("the report hides failures:\n%s", text)
	}
	report.Rows = []Row{goal.Absent("there is no tunnel")}
	if len(report.Missed()) != 0 {
		t.Error("a goal for which there is nothing yet counts as missed")
	}
}

func TestControls(t *testing.T) {
	s := Suite{Name: "tcp_rr", Reference: costs("host", constantly(100)), Arms: []Arm{costs(SameAgain, constantly(104)), costs("slow", constantly(400))}}
	report := Report{Samples: run(t, 7, s)}
	speed := func(of string) Comparison {
		return Comparison{Goal: Goal{What: of}, Suite: "tcp_rr", Of: of}
	}
	report.AddControls(Control{Comparison: speed("slow"), Low: 0, High: 0.3})
	if !report.Proves() {
		t.Errorf("a control that came out failed the run: %+v", report.Controls)
	}
	report.AddControls(Control{Comparison: speed(SameAgain), Low: 0.97, High: 1.03})
	if report.Proves() || !strings.Contains(report.Markdown(), "proves nothing") {
		t.Error("the reference is 4 % slower than itself, and the run is believed")
	}
	report.Controls = nil
	report.AddControls(Control{Comparison: speed("nobody"), Low: 0, High: 1})
	if report.Proves() {
		t.Error("a control that was not measured is believed")
	}
}

func TestSamplesAreLinesWithConditions(t *testing.T) {
	s := Suite{Name: "tcp_rr", Reference: Arm{Name: "host", MTU: 1500, Programs: map[string]int{"p": 3}, Measure: costs("", constantly(5)).Measure}}
	samples := run(t, 1, s)
	var b strings.Builder
	if err := WriteSamples(&b, samples); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != len(samples) {
		t.Fatalf("%d lines for %d samples", len(lines), len(samples))
	}
	var got Sample
	if err := json.Unmarshal([]byte(lines[0]), &got); err != nil {
		t.Fatal(err)
	}
	if got.Conditions.Kernel == "" || got.Conditions.MTU != 1500 || got.Programs["p"] != 3 || got.Result.P50 != 5 {
		t.Errorf("got %+v", got)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Runner{Rounds: 3, Random: Now()}.Run(ctx, Suite{Reference: costs("host", constantly(1))})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestProcessor(t *testing.T) {
	const cpuinfo = "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel\t: 3\nmodel name\t: another\n"
	if got := processor(cpuinfo); got != "AMD EPYC, family 26, model 2" {
		t.Errorf("got %q", got)
	}
	if got := processor("BogoMIPS\t: 50.00\n"); got != "unknown CPU" {
		t.Errorf("got %q", got)
	}
	dir := t.TempDir()
	for i, files := range []map[string]string{
		{"level": "1\n", "type": "Data\n", "size": "48K\n", "shared_cpu_list": "1\n"},
		{"level": "3\n", "type": "Unified\n", "size": "32768K\n", "shared_cpu_list": "0-1\n"},
	} {
		for name, text := range files {
			file := filepath.Join(dir, fmt.Sprintf("index%d", i), name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := caches(dir); got != "L1 Data 48K, L3 32768K of CPUs 0-1" {
		t.Errorf("got %q", got)
	}
	if got := caches(filepath.Join(dir, "nothing")); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestParseStat(t *testing.T) {
	busy, steal, err := parseStat("cpu  1 2 3 4 5 6 7 8 0 0\ncpu0 100 0 50 900 10 1 2 30 0 0\ncpu1 1 0 1 900 10 0 0 4 0 0\nintr 5\n")
	if err != nil {
		t.Fatal(err)
	}
	if busy != 1550*time.Millisecond || steal[0] != 300*time.Millisecond || steal[1] != 40*time.Millisecond {
		t.Errorf("busy %s, steal %v", busy, steal)
	}
}
