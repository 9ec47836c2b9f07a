package verify

import (
	"bytes"
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
