package verify

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestNarrowTerminal(t *testing.T) {
	for columns, want := range map[string]int{"": textWidth, "80": 80, "60": 60, "x": textWidth, "500": textWidth} {
		t.Setenv("COLUMNS", columns)
		r := sampleReport()
		for i := range r.Results {
			r.Results[i].Cells = nil // a table of paths is as wide as it is
		}
		var b bytes.Buffer
		if err := r.WriteText(&b, true); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > want {
				t.Errorf("COLUMNS=%s: %d columns: %q", columns, n, line)
			}
		}
	}
}

// TestManyThatDidNotRun: where all for one reason many checks did not run, the reason is written once, and each check is named; with
// all evidence each is written for itself.
func TestManyThatDidNotRun(t *testing.T) {
	t.Setenv("COLUMNS", "")
	var checks []Check
	for _, name := range []string{"one", "two", "three", "four"} {
		checks = append(checks, Check{Name: "a/" + name, Claim: "It holds."})
	}
	r := NotRun("l", Kind{}, Selection{}, checks, errors.New("interrupted"))
	text := func(verbose bool) string {
		var b bytes.Buffer
		if err := r.WriteText(&b, verbose); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if got, want := text(false), "ERROR  4 checks were not run: interrupted\n       a/one, a/two, a/three, a/four\n"; !strings.Contains(got, want) {
		t.Errorf("got\n%s\nwant it to have\n%s", got, want)
	}
	if got := strings.Count(text(true), "not run: interrupted"); got != 4 {
		t.Errorf("with all evidence the reason is there %d times", got)
	}
	r.Results = r.Results[:3]
	if got := strings.Count(text(false), "not run: interrupted"); got != 3 {
		t.Errorf("of three the reason is there %d times", got)
	}
}
