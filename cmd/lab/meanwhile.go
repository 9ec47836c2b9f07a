package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/interrupt"
)

// meanwhile is a command that runs while lab watches.
type meanwhile struct {
	cmd    *exec.Cmd
	failed error // it could not be run
}

// toEnd is how long a command may take to end once it is told to.
const toEnd = 10 * time.Second

// splitCommand takes the command behind -- off the arguments; nil where there is no --.
func splitCommand(cmd *cobra.Command, args []string) (before, command []string, err error) {
	dash := cmd.ArgsLenAtDash()
	switch {
	case dash < 0:
		return args, nil, nil
	case dash == len(args):
		return nil, nil, errors.New("no command after --")
	}
	return args[:dash], args[dash:], nil
}

// behindDash takes the command behind -- off the arguments and finds it; nil where there is no --.
func behindDash(cmd *cobra.Command, args []string) (before []string, m *meanwhile, err error) {
	before, command, err := splitCommand(cmd, args)
	if err == nil && command != nil {
		m, err = newMeanwhile(cmd, command)
	}
	if err != nil {
		return nil, nil, usageError{err}
	}
	return before, m, nil
}

// newMeanwhile finds the command. What it prints goes to lab's standard error, as standard output is for what is watched.
// It does not read from a terminal, which it would take from lab.
func newMeanwhile(of *cobra.Command, argv []string) (*meanwhile, error) {
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:gosec // it is what the person asks for
	if cmd.Err != nil {
		return nil, fmt.Errorf("no command %q: %w", argv[0], errors.Unwrap(cmd.Err))
	}
	cmd.Stdout, cmd.Stderr = of.ErrOrStderr(), of.ErrOrStderr()
	if f, ok := fileOf(of.ErrOrStderr()); ok {
		cmd.Stdout, cmd.Stderr = f, f
	}
	if in, ok := fileOf(of.InOrStdin()); !ok {
		cmd.Stdin = of.InOrStdin()
	} else if !isTerminal(in) {
		cmd.Stdin = in
	}
	// A group of its own, so that an interrupt reaches it once: from here.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithParent(cmd.SysProcAttr)
	return &meanwhile{cmd: cmd}, nil
}

// run runs it to its end. The end of ctx interrupts it, and a second interrupt kills it.
func (m *meanwhile) run(ctx context.Context) {
	runtime.LockOSThread() // which endWithParent is about
	defer runtime.UnlockOSThread()
	if m.failed = m.cmd.Start(); m.failed != nil {
		return
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-ended:
			return
		case <-ctx.Done():
		}
		if signal.Ignored(syscall.SIGINT) { // as in a job of a script, and so what lab runs ignores it, too
			m.signal(syscall.SIGTERM)
		} else {
			m.signal(syscall.SIGINT)
		}
		patience, cancel := interrupt.Cleanup(ctx, toEnd)
		defer cancel()
		select {
		case <-ended:
		case <-patience.Done():
			m.signal(syscall.SIGKILL)
		}
	}()
	if err := m.cmd.Wait(); !is[*exec.ExitError](err) {
		m.failed = err
	}
}

// signal is for the command and for what it started.
func (m *meanwhile) signal(s syscall.Signal) { _ = syscall.Kill(-m.cmd.Process.Pid, s) }

// ran says whether it came to that.
func (m *meanwhile) ran() bool { return m.failed != nil || m.cmd.Process != nil }

// result is nil, or has the exit status: as shells have it, 128 and the signal where one ended it.
func (m *meanwhile) result() error {
	if m.failed != nil {
		return fmt.Errorf("run %s: %w", m.cmd.Path, m.failed)
	}
	state := m.cmd.ProcessState
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return statusError{128 + int(status.Signal())}
	}
	if code := state.ExitCode(); code != 0 {
		return statusError{code}
	}
	return nil
}
