package main

import (
	"errors"
	"strings"
	"testing"
)

// What must fail a run does, and nothing else: a skip hides no loss.
func TestJudge(t *testing.T) {
	const (
		passed  = "=== RUN   TestA\n--- PASS: TestA (0.10s)\nPASS\n"
		failed  = "=== RUN   TestA\n    a_test.go:1: wrong\n--- FAIL: TestA (0.10s)\nFAIL\n"
		lacks   = "=== RUN   TestA\n    a_test.go:1: kernel 6.1 has no tcx, as the table of kernels says\n--- SKIP: TestA (0.00s)\nPASS\n"
		skipped = "=== RUN   TestA\n    a_test.go:1: not today\n--- SKIP: TestA (0.00s)\nPASS\n"
		hangs   = "=== RUN   TestA\n"
	)
	of := func(kernel, said, status string) report {
		o := &outcome{status: status}
		o.said.WriteString(said)
		return report{kernel: kernel, packages: map[string]*outcome{"datapath": o}}
	}
	dead := of("6.1", passed, "0")
	dead.err = errors.New("the machine died while it ran tests")
	for name, c := range map[string]struct {
		reports []report
		want    string
	}{
		"all pass":                         {[]report{of("6.1", passed, "0"), of("6.12", passed, "0")}, ""},
		"skipped where the table says":     {[]report{of("6.1", lacks, "0"), of("6.12", passed, "0")}, ""},
		"passed first":                     {[]report{of("6.12", passed, "0"), of("6.1", lacks, "0")}, ""},
		"skipped everywhere":               {[]report{of("5.10", lacks, "0"), of("6.1", lacks, "0")}, "datapath TestA ran under none of these kernels"},
		"skipped for a reason of its own":  {[]report{of("6.1", passed, "0"), of("6.12", skipped, "0")}, "6.12: datapath TestA is skipped for a reason that no table gives"},
		"failed":                           {[]report{of("6.1", failed, "1"), of("6.12", passed, "0")}, "6.1: datapath TestA failed"},
		"never ended":                      {[]report{of("6.1", hangs, "")}, "6.1: datapath TestA failed"},
		"passed, but the process did not":  {[]report{of("6.1", passed, "2")}, `6.1: the tests of datapath ended with status "2"`},
		"nothing was run":                  {[]report{of("6.1", "PASS\n", "0")}, "6.1: datapath has no TestA"},
		"never began":                      {[]report{{kernel: "6.1"}}, "6.1: the tests of datapath did not begin"},
		"the machine died after it passed": {[]report{dead}, "6.1: the machine died"},
	} {
		t.Run(name, func(t *testing.T) {
			err := judge(c.reports, []suite{{folder: "datapath", tests: []string{"TestA"}}})
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// Lines that tests print are kept apart by package, and what was cut off is seen.
func TestRead(t *testing.T) {
	r := report{packages: map[string]*outcome{}}
	said := "boot\n" + beginMark + "bpf\nPASS\n" + endMark + "0\n" + beginMark + "datapath\nhalf a line" + endMark + "1\n"
	if err := r.read(strings.NewReader(said)); err != nil {
		t.Fatal(err)
	}
	if b, d := r.packages["bpf"], r.packages["datapath"]; b.said.String() != "PASS\n" || b.status != "0" || d.said.String() != "half a line" || d.status != "1" {
		t.Errorf("read %+v and %+v", b, d)
	}
	if err := r.read(strings.NewReader(beginMark + "bpf\nPASS\n")); err == nil {
		t.Error("a machine that died while it ran tests was not noticed")
	}
}
