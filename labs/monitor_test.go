package labs

import (
	"errors"
	"strings"
	"testing"
)

func TestLineWriter(t *testing.T) {
	var got []string
	w := &lineWriter{each: func(b []byte) error {
		got = append(got, string(b))
		if string(b) == "bad" {
			return errors.New("bad line")
		}
		return nil
	}}
	for _, part := range []string{"a", "b\nc\n\nd", "e", "\n"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("%q: %d, %v", part, n, err)
		}
	}
	if strings.Join(got, "|") != "ab|c||de" {
		t.Errorf("lines: %q", got)
	}
	if _, err := w.Write([]byte("bad\n")); err == nil {
		t.Error("the error of a line is lost")
	}
	if _, err := w.Write(make([]byte, maxLine+1)); err == nil {
		t.Error("a line without an end is kept")
	}
}
