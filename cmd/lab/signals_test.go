package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/docker/dockertest"
)

// programVar makes the test binary lab itself, so that signals can be sent to it.
const programVar = "LAB_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programVar) != "" {
		main()
	}
	os.Exit(m.Run())
}

// program is lab as a process of its own.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), programVar+"=1")
	return cmd
}

// slowPull is an engine without images, whose pulls say something and never end.
func slowPull(t *testing.T) (pulling chan struct{}) {
	t.Helper()
	pulling = make(chan struct{}, 4)
	dockertest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/images/create") {
			http.Error(w, `{"message":"no such image"}`, http.StatusNotFound)
			return
		}
		fmt.Fprintln(w, `{"status":"Pulling"}`)
		w.(http.Flusher).Flush()
		pulling <- struct{}{}
		<-r.Context().Done()
	})
	return pulling
}

// TestSignalsThatEnd: each ends a command in an orderly way, which has its own word and its own exit status.
func TestSignalsThatEnd(t *testing.T) {
	// Tests that were started with SIGHUP ignored, as by nohup, would hand that on; a signal that is handled is not ignored
	// in the commands that they start.
	handled := make(chan os.Signal, 1)
	signal.Notify(handled, syscall.SIGHUP)
	defer signal.Stop(handled)
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(s.String(), func(t *testing.T) {
			pulling := slowPull(t)
			cmd := program(t, "image", "kubeproxy")
			var errOut bytes.Buffer
			cmd.Stderr = &errOut
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			<-pulling
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(errOut.String(), "lab: interrupted") {
				t.Errorf("%v, want exit 1 and a word:\n%s", cmd.ProcessState, errOut.String())
			}
		})
	}
}

func TestIgnoredHangupStaysIgnored(t *testing.T) {
	pulling := slowPull(t)
	cmd := program(t)
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", "trap '' HUP; exec \"$0\" image kubeproxy", cmd.Path}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-pulling
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended(cmd):
		t.Errorf("ended by a signal that it was started to ignore: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	_ = cmd.Process.Kill()
}

func ended(cmd *exec.Cmd) chan error {
	c := make(chan error, 1)
	go func() { c <- cmd.Wait() }()
	return c
}

// TestBrokenPipe: a write to a pipe that nobody reads is no death by a signal, whichever stream it is.
func TestBrokenPipe(t *testing.T) {
	for _, stream := range []string{"stdout", "stderr"} {
		t.Run(stream, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			cmd := program(t, "profile", "list")
			if stream == "stderr" {
				cmd = program(t, "nonsense")
				cmd.Stderr = w
			} else {
				cmd.Stdout = w
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			_ = w.Close()
			_ = cmd.Wait()
			if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signaled() {
				t.Errorf("ended by %v", cmd.ProcessState)
			}
		})
	}
}

// TestGoneReaderEndsTheCommand: what is under way is cut short, as by a signal.
func TestGoneReaderEndsTheCommand(t *testing.T) {
	ctx, end := untilTold()
	w := &watched{Writer: brokenPipe{}, gone: end}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("the write succeeded")
	}
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Second):
		t.Error("the command goes on")
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) {
	return 0, &os.PathError{Op: "write", Path: "|1", Err: syscall.EPIPE}
}

// TestSilentEngine: with an engine that answers no question but the first, every command ends by itself and says so.
func TestSilentEngine(t *testing.T) {
	dockertest.Serve(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(2 * time.Minute):
		}
	})
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "config"))
	type command struct {
		*exec.Cmd
		out bytes.Buffer
	}
	commands := map[string]*command{}
	for _, line := range []string{"list", "status", "verify", "up kubeproxy", "down x", "image", "doctor", "shell worker -- true", "bpf lb list", "logs"} {
		c := &command{Cmd: program(t, strings.Fields(line)...)}
		c.Stdout, c.Stderr = &c.out, &c.out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		commands[line] = c
	}
	deadline := time.After(time.Minute)
	for line, c := range commands {
		select {
		case <-ended(c.Cmd):
			if said := c.out.String(); c.ProcessState.ExitCode() != exitFailed || !strings.Contains(said, "docker does not answer") {
				t.Errorf("lab %s: %v, want exit 1 and the reason:\n%s", line, c.ProcessState, said)
			}
		case <-deadline:
			t.Fatalf("lab %s goes on", line)
		}
	}
}
