package docker

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"wirelab.dev/wirelab/internal/command"
)

// Exec runs cmd as root with all privileges in a running container and returns its output. stdin may be nil.
// When ctx ends, Exec returns its error; the process in the container may live on.
func (e *Engine) Exec(ctx context.Context, container string, stdin io.Reader, cmd ...string) (command.Result, error) {
	var out, errs bytes.Buffer
	code, err := e.ExecStream(ctx, container, stdin, &out, &errs, cmd...)
	return command.Result{Stdout: out.Bytes(), Stderr: errs.Bytes(), Code: code}, err
}

// ExecStream is Exec that hands output on as it comes. It returns the exit status. stdin has to end: where the command
// succeeded, that all of it could be sent is waited for.
func (e *Engine) ExecStream(ctx context.Context, container string, stdin io.Reader, stdout, stderr io.Writer, cmd ...string) (int, error) {
	code, err := e.stream(ctx, container, Terminal{Stdin: stdin, Stdout: stdout, Stderr: stderr}, true, cmd)
	return code, named(container, cmd, err)
}

// named says which command an error is about.
func named(container string, cmd []string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("run %q in %s: %w", strings.Join(cmd, " "), container, err)
}

// inspectExec asks how a command is, or ended.
func (e *Engine) inspectExec(ctx context.Context, id string) (client.ExecInspectResult, error) {
	lctx, late, cancel := limit(ctx, e.lookUp)
	defer cancel()
	r, err := e.api.ExecInspect(lctx, id, client.ExecInspectOptions{})
	return r, late(err)
}

// start starts cmd in a container, connected as t says, and returns its id. The caller closes the connection.
func (e *Engine) start(ctx context.Context, container string, t Terminal, cmd []string) (id string, att client.ExecAttachResult, err error) {
	lctx, late, cancel := limit(ctx, e.doIt)
	defer cancel()
	made, err := e.api.ExecCreate(lctx, container, client.ExecCreateOptions{
		Privileged: true, TTY: t.TTY, AttachStdin: t.Stdin != nil, AttachStdout: true, AttachStderr: true, Env: t.Env, Cmd: cmd,
	})
	if err == nil {
		att, err = e.api.ExecAttach(lctx, made.ID, client.ExecAttachOptions{TTY: t.TTY})
	}
	return made.ID, att, late(err)
}

// stream runs cmd, connected as t says. With whole, what could not be sent of t.Stdin is an error where the command
// succeeded.
func (e *Engine) stream(ctx context.Context, container string, t Terminal, whole bool, cmd []string) (int, error) {
	id, att, err := e.start(ctx, container, t, cmd)
	if err != nil {
		return 0, err
	}
	defer att.Close()
	// The hijacked connection knows no context: closing it is what ends a blocked read.
	stop := context.AfterFunc(ctx, att.Close)
	defer stop()
	if t.TTY && t.Resize != nil {
		rctx, cancel := context.WithCancel(ctx)
		var resizing sync.WaitGroup
		resizing.Go(func() { e.resize(rctx, id, t.Resize) })
		defer resizing.Wait()
		defer cancel()
	}
	// Waited for with whole alone: reading a terminal cannot be broken off, and the program ends after its command.
	sent := make(chan error, 1)
	go func() {
		var err error
		if t.Stdin != nil {
			_, err = io.Copy(att.Conn, t.Stdin)
		}
		_ = att.CloseWrite()
		sent <- err
	}()
	if t.TTY {
		_, err = io.Copy(t.Stdout, att.Reader)
	} else {
		_, err = stdcopy.StdCopy(t.Stdout, t.Stderr, att.Reader)
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err != nil {
		return 0, fmt.Errorf("read output: %w", err)
	}
	st, err := e.inspectExec(ctx, id)
	if err != nil {
		return 0, err
	}
	// A command may end without having read all of its input; only its exit status counts then.
	if whole && st.ExitCode == 0 && t.Stdin != nil {
		select {
		case err := <-sent:
			if err != nil {
				return 0, fmt.Errorf("write input: %w", err)
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return st.ExitCode, nil
}
