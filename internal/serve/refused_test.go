package serve

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestReasons(t *testing.T) {
	var r Reasons
	began := time.Now()
	at := func(s int) time.Time { return began.Add(time.Duration(s) * time.Second) }
	for _, c := range []struct {
		reason string
		second int
		want   bool
	}{
		{"a", 0, true}, {"a", 1, false}, {"b", 1, true}, {"a", 9, false}, {"a", 10, true}, {"b", 10, false}, {"b", 11, true},
	} {
		if got := r.Due(c.reason, at(c.second)); got != c.want {
			t.Errorf("%s after %d s: %v, want %v", c.reason, c.second, got, c.want)
		}
	}
	due := 0
	for i := range 1000 {
		if r.Due(fmt.Sprint("reason ", i), at(30)) {
			due++
		}
	}
	if due != maxReasons {
		t.Errorf("%d reasons are due at a time, want %d", due, maxReasons)
	}
	if !r.Due("a", at(40)) {
		t.Error("none is due after that")
	}
}

// TestRefusals: clients that are refused for the same reason are one line, whatever their addresses are.
func TestRefusals(t *testing.T) {
	var out bytes.Buffer
	r := &refusals{log: slog.New(slog.NewTextHandler(&out, nil)), advise: func(err error) error { return errors.New(err.Error() + ": do this") }}
	for _, line := range []string{
		"http: TLS handshake error from 10.0.0.1:4001: tls: client didn't provide a certificate\n",
		"http: TLS handshake error from [fd00::1]:4002: tls: client didn't provide a certificate\n",
		"http: TLS handshake error from 10.0.0.1:4003: remote error: tls: bad certificate\n",
		"http: TLS handshake error from 10.0.0.1:4004: remote error: tls: bad certificate\n",
	} {
		if n, err := r.Write([]byte(line)); n != len(line) || err != nil {
			t.Errorf("%d of %d bytes written, %v", n, len(line), err)
		}
	}
	if got := out.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "10.0.0.1:4001: tls: client didn't provide a certificate: do this") || !strings.Contains(got, ":4003: remote error") {
		t.Errorf("the log is\n%s", got)
	}
}
