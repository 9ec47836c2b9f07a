package screen

import (
	"strings"
	"testing"
)

func TestWrap(t *testing.T) {
	for _, test := range []struct {
		text string
		want []string
	}{
		{"", []string{""}},
		{"one two three", []string{"one two", "three"}},
		{"0123456789ab c", []string{"01234567", "89ab c"}},
		{"äöüß äöüß", []string{"äöüß", "äöüß"}},
		{"a   b", []string{"a   b"}},
	} {
		if got := Wrap(test.text, 8); strings.Join(got, "|") != strings.Join(test.want, "|") {
			t.Errorf("Wrap(%q) = %q, want %q", test.text, got, test.want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		in    string
		width int
		want  string
	}{{"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"äöüß", 3, "äö…"}, {"abcd", 0, "abcd"}} {
		if got := Cut(tt.in, tt.width); got != tt.want {
			t.Errorf("%q in %d: %q, want %q", tt.in, tt.width, got, tt.want)
		}
	}
}

func TestAtMost(t *testing.T) {
	for columns, want := range map[string]int{"": 88, "x": 88, "0": 88, "500": 88, "88": 88, "60": 60, "7": 40} {
		t.Setenv("COLUMNS", columns)
		if got := AtMost(88); got != want {
			t.Errorf("COLUMNS=%s: %d, want %d", columns, got, want)
		}
	}
}
