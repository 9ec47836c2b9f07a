package field

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wirelab.dev/wirelab/verify/probe"
)

// echoShell is a nettool that answers an exec with its own arguments, never
// answers "hang", ends at "die", and treats a capture as nettool does.
func echoShell(_ context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
	decoder, encoder := json.NewDecoder(stdin), json.NewEncoder(stdout)
	for {
		var r probe.Request
		if err := decoder.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var reply probe.Reply
		switch {
		case r.Cancel != "":
			reply = probe.Reply{ID: r.Cancel, Capture: &probe.CaptureResult{}}
		case r.Capture != nil && r.Capture.Interface == "none":
			reply = probe.Reply{ID: r.ID, Error: "no such device"}
		case r.Capture != nil:
			reply = probe.Reply{ID: r.ID, Ready: true}
		case r.Exec.Argv[0] == "hang":
			continue
		case r.Exec.Argv[0] == "die":
			fmt.Fprint(stderr, "out of memory")
			return errors.New("status 137")
		default:
			reply = probe.Reply{ID: r.ID, Exec: &probe.ExecResult{Stdout: r.Exec.Argv[0]}}
		}
		if err := encoder.Encode(reply); err != nil {
			return err
		}
	}
}

func ask1(ctx context.Context, s *session, word string) (probe.Reply, error) {
	return s.Probe(ctx, probe.Request{Exec: &probe.Exec{Argv: []string{word}}})
}

func TestSessionCarriesManyProbesThroughOneCommand(t *testing.T) {
	var opened atomic.Int32
	s := newSession(t.Context(), "pod a", func(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
		opened.Add(1)
		return echoShell(ctx, stdin, stdout, stderr)
	})
	defer s.Close()
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			word := fmt.Sprint("word", i)
			reply, err := ask1(t.Context(), s, word)
			if err != nil || reply.Exec.Stdout != word {
				t.Errorf("asked %s: %+v, %v", word, reply, err)
			}
		})
	}
	all.Wait()
	if opened.Load() != 1 {
		t.Errorf("the command ran %d times, want once", opened.Load())
	}
}

func TestSessionOpensAgainAfterItBroke(t *testing.T) {
	s := newSession(t.Context(), "pod a", echoShell)
	defer s.Close()
	_, err := ask1(t.Context(), s, "die")
	if err == nil || !strings.Contains(err.Error(), "pod a: status 137: out of memory") {
		t.Errorf("error %v", err)
	}
	if reply, err := ask1(t.Context(), s, "again"); err != nil || reply.Exec.Stdout != "again" {
		t.Errorf("%+v, %v", reply, err)
	}
}

// A container runtime now and then fails to start a command. What had answered before is not asked twice.
func TestSessionIsOpenedTwiceIfItNeverBegan(t *testing.T) {
	var opened atomic.Int32
	s := newSession(t.Context(), "pod a", func(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
		if opened.Add(1) == 1 {
			return errors.New("failed to start exec")
		}
		return echoShell(ctx, stdin, stdout, stderr)
	})
	defer s.Close()
	if reply, err := ask1(t.Context(), s, "word"); err != nil || reply.Exec.Stdout != "word" {
		t.Errorf("%+v, %v", reply, err)
	}
	if _, err := ask1(t.Context(), s, "die"); err == nil || opened.Load() != 2 {
		t.Errorf("error %v after %d starts, want one after 2", err, opened.Load())
	}
	opened.Store(0)
	if _, err := s.Start(t.Context(), probe.Request{Capture: &probe.Capture{Interface: "eth0"}}); err != nil || opened.Load() != 2 {
		t.Errorf("error %v after %d starts, want none after 2", err, opened.Load())
	}
}

func TestSessionWaitsNoLongerThanAsked(t *testing.T) {
	s := newSession(t.Context(), "pod a", echoShell)
	defer s.Close()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errors.New("the check is over"))
	defer cancel()
	if _, err := ask1(ctx, s, "hang"); err == nil || !strings.Contains(err.Error(), "the check is over") {
		t.Errorf("error %v", err)
	}
	// What hung for one does not hang for the next.
	if _, err := ask1(t.Context(), s, "next"); err != nil {
		t.Error(err)
	}
}

func TestSessionOfACommandThatDoesNotRun(t *testing.T) {
	ended := map[string]string{"fails": "no such container", "is silent": "nettool ended", "is not JSON": "sh: nettool: not found"}
	for name, shell := range map[string]shell{
		"fails":     func(context.Context, io.Reader, io.Writer, io.Writer) error { return errors.New("no such container") },
		"is silent": func(context.Context, io.Reader, io.Writer, io.Writer) error { return nil },
		"is not JSON": func(_ context.Context, _ io.Reader, out, _ io.Writer) error {
			_, err := io.WriteString(out, "sh: nettool: not found\n")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSession(t.Context(), "node a", shell)
			defer s.Close()
			if _, err := ask1(t.Context(), s, "word"); err == nil || !strings.HasPrefix(err.Error(), "node a: ") || !strings.Contains(err.Error(), ended[name]) || errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestSessionCapture(t *testing.T) {
	s := newSession(t.Context(), "node a", echoShell)
	defer s.Close()
	running, err := s.Start(t.Context(), probe.Request{Capture: &probe.Capture{Interface: "eth0"}})
	if err != nil {
		t.Fatal(err)
	}
	if !running.Ready().Ready {
		t.Error("started, and yet not ready")
	}
	if reply, err := running.Stop(t.Context()); err != nil || reply.Capture == nil {
		t.Errorf("%+v, %v", reply, err)
	}
	if _, err := s.Start(t.Context(), probe.Request{Capture: &probe.Capture{Interface: "none"}}); err == nil || !strings.Contains(err.Error(), "no such device") {
		t.Errorf("error %v", err)
	}
}

func TestSessionEndsWithTheRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	blocked := func(ctx context.Context, _ io.Reader, _, _ io.Writer) error { <-ctx.Done(); return ctx.Err() }
	s := newSession(ctx, "node a", blocked)
	asked := make(chan error, 1)
	go func() {
		_, err := ask1(t.Context(), s, "word")
		asked <- err
	}()
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	s.Close()
	if _, err := ask1(t.Context(), s, "late"); err == nil || !strings.Contains(err.Error(), "the run is over") {
		t.Errorf("error %v", err)
	}
}

// TestSessionClosesThoughItsCommandHangs: an exec in a pod of a node that has just been paused hears of nothing.
func TestSessionClosesThoughItsCommandHangs(t *testing.T) {
	release, ended := make(chan struct{}), make(chan struct{})
	s := newSession(t.Context(), "pod a", func(context.Context, io.Reader, io.Writer, io.Writer) error {
		defer close(ended)
		<-release
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := ask1(ctx, s, "hang"); err == nil {
		t.Error("a command that hangs has answered")
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.Close()
	}()
	select {
	case <-closed:
	case <-time.After(4 * closeGrace):
		t.Error("the session waits for a command that does not end")
	}
	close(release)
	<-ended
	<-closed
}

// TestSessionSendsNothingWithoutATarget: the error names who was to send it and what is missing.
func TestSessionSendsNothingWithoutATarget(t *testing.T) {
	s := newSession(t.Context(), "pod a", echoShell)
	defer s.Close()
	request := probe.Request{ICMP: &probe.ICMP{}}
	_, probed := s.Probe(t.Context(), request)
	_, started := s.Start(t.Context(), request)
	for _, err := range []error{probed, started} {
		if err == nil || !strings.Contains(err.Error(), "pod a: ") || !strings.Contains(err.Error(), "icmp.address is") {
			t.Errorf("%v", err)
		}
	}
	if _, err := ask1(t.Context(), s, "x"); err != nil {
		t.Errorf("and the session is of use: %v", err)
	}
}
