// Package pagetest holds a part of a page, which a test writes, against what it is made of.
package pagetest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Hold compares the part of a page between the lines "<!-- PART: written by COMMAND -->" and "<!-- end of PART -->" with what it is to
// be. With update it writes that there.
func Hold(t *testing.T, page, part, command, want string, update bool) {
	t.Helper()
	begin, end := fmt.Sprintf("<!-- %s: written by %s -->\n", part, command), fmt.Sprintf("<!-- end of %s -->\n", part)
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(text), begin)
	have, after, ends := strings.Cut(rest, end)
	if !begins || !ends {
		t.Fatalf("%s has no place for the %s: the lines %q and %q", page, part, begin, end)
	}
	if update {
		if err := os.WriteFile(page, []byte(before+begin+want+end+after), 0o644); err != nil { //nolint:gosec // a page for all to read
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("the %s of %s differ from what they are made of; run %s\n%s", part, page, command, diff)
	}
}
