package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/interrupt"
)

// beside is a command that writes where it is told to, and has what its input is.
func beside(t *testing.T, input string, argv ...string) (*meanwhile, *bytes.Buffer) {
	t.Helper()
	var errOut bytes.Buffer
	of := &cobra.Command{}
	of.SetIn(strings.NewReader(input))
	of.SetErr(&errOut)
	m, err := newMeanwhile(of, argv)
	if err != nil {
		t.Fatal(err)
	}
	return m, &errOut
}

// TestMeanwhile: the command's output goes to standard error, and its status is what lab ends with.
func TestMeanwhile(t *testing.T) {
	for _, tt := range []struct {
		script string
		code   int
	}{{"exit 0", 0}, {"exit 3", 3}, {"kill -TERM $$", 128 + 15}} {
		m, errOut := beside(t, "input", "sh", "-c", "cat; echo out; echo err >&2; "+tt.script)
		if m.ran() {
			t.Error("it has run before it does")
		}
		m.run(t.Context())
		var exit statusError
		if err := m.result(); tt.code == 0 && err != nil || tt.code != 0 && (!errors.As(err, &exit) || exit.code != tt.code) {
			t.Errorf("%s: %v, want status %d", tt.script, err, tt.code)
		}
		if errOut.String() != "inputout\nerr\n" || !m.ran() {
			t.Errorf("%s: standard error has %q", tt.script, errOut)
		}
	}
}

// TestMeanwhileIsInterrupted: with lab, and once; one that does not heed it is killed with what it started.
func TestMeanwhileIsInterrupted(t *testing.T) {
	t.Run("heeds", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		up := filepath.Join(t.TempDir(), "up")
		m, errOut := beside(t, "", "sh", "-c", `trap 'echo interrupted; exit 5' INT; : >`+up+`; while :; do sleep 0.05; done`)
		go interruptOnce(t, up, cancel)
		m.run(ctx)
		var exit statusError
		if !errors.As(m.result(), &exit) || exit.code != 5 || errOut.String() != "interrupted\n" {
			t.Errorf("%v, %q", m.result(), errOut)
		}
	})
	t.Run("ignores", func(t *testing.T) {
		stopped, stop := context.WithCancel(t.Context())
		stop() // the second interrupt comes with the first
		ctx, cancel := context.WithCancel(interrupt.WithStop(t.Context(), stopped))
		up := filepath.Join(t.TempDir(), "up")
		m, _ := beside(t, "", "sh", "-c", `trap '' INT; : >`+up+`; sleep 60 & wait; sleep 60`)
		go interruptOnce(t, up, cancel)
		began := time.Now()
		m.run(ctx)
		var exit statusError
		if !errors.As(m.result(), &exit) || exit.code != 128+9 || time.Since(began) > 30*time.Second {
			t.Errorf("%v after %s", m.result(), time.Since(began))
		}
	})
}

// interruptOnce cancels once the command has said that it is up.
func interruptOnce(t *testing.T, up string, cancel func()) {
	for t.Context().Err() == nil {
		if _, err := os.Stat(up); err == nil {
			cancel()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
