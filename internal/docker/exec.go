package docker

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"wirelab.dev/wirelab/internal/command"
)

// Exec runs cmd as root with all privileges in a running container and returns its output. stdin may be nil.
// When ctx ends, Exec returns its error; the process in the container may live on.
func (e *Engine) Exec(ctx context.Context, container string, stdin io.Reader, cmd ...string) (command.Result, error) {
	var out, errs bytes.Buffer
	code, err := e.stream(ctx, container, nil, stdin, &out, &errs, cmd)
	if err != nil {
		return command.Result{}, fmt.Errorf("run %q in %s: %w", strings.Join(cmd, " "), container, err)
	}
	return command.Result{Stdout: out.Bytes(), Stderr: errs.Bytes(), Code: code}, nil
}

// ExecStream is Exec that hands output on as it comes. It returns the exit status.
func (e *Engine) ExecStream(ctx context.Context, container string, stdin io.Reader, stdout, stderr io.Writer, cmd ...string) (int, error) {
	code, err := e.stream(ctx, container, nil, stdin, stdout, stderr, cmd)
	if err != nil {
		return 0, fmt.Errorf("run %q in %s: %w", strings.Join(cmd, " "), container, err)
	}
	return code, nil
}

// inspectExec asks how a command is, or ended.
func (e *Engine) inspectExec(ctx context.Context, id string) (client.ExecInspectResult, error) {
	lctx, late, cancel := limit(ctx, e.lookUp)
	defer cancel()
	r, err := e.api.ExecInspect(lctx, id, client.ExecInspectOptions{})
	return r, late(err)
}

func (e *Engine) stream(ctx context.Context, container string, env []string, stdin io.Reader, stdout, stderr io.Writer, cmd []string) (int, error) {
	lctx, late, cancelStart := limit(ctx, e.doIt)
	defer cancelStart()
	made, err := e.api.ExecCreate(lctx, container, client.ExecCreateOptions{
		Privileged: true, AttachStdin: stdin != nil, AttachStdout: true, AttachStderr: true, Env: env, Cmd: cmd,
	})
	if err != nil {
		return 0, late(err)
	}
	att, err := e.api.ExecAttach(lctx, made.ID, client.ExecAttachOptions{})
	if err != nil {
		return 0, late(err)
	}
	defer att.Close()
	// The hijacked connection knows no context: closing it is what ends a blocked read.
	stop := context.AfterFunc(ctx, att.Close)
	defer stop()

	sent := make(chan error, 1)
	go func() {
		var err error
		if stdin != nil {
			_, err = io.Copy(att.Conn, stdin)
		}
		_ = att.CloseWrite()
		sent <- err
	}()
	_, err = stdcopy.StdCopy(stdout, stderr, att.Reader)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err != nil {
		return 0, fmt.Errorf("read output: %w", err)
	}
	st, err := e.inspectExec(ctx, made.ID)
	if err != nil {
		return 0, err
	}
	// A command may end without having read all of its input; only its exit status counts then.
	if st.ExitCode == 0 && stdin != nil {
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
