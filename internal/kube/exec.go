package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"

	"wirelab.dev/wirelab/internal/command"
)

// PodRef names a container of a pod. An empty Container means the pod's first.
type PodRef struct{ Namespace, Name, Container string }

func (p PodRef) String() string { return p.Namespace + "/" + p.Name }

// Streams are the ends of an interactive command. Stdin may be nil. With TTY set the command gets a terminal
// and Stderr is not used; Resize then gives its sizes and may be nil.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	TTY            bool
	Resize         remotecommand.TerminalSizeQueue
}

// Exec runs cmd in a running pod through the exec subresource and returns its output. An exit status other
// than 0 is in the Result and no error. When ctx ends, Exec returns its error.
func (c *Client) Exec(ctx context.Context, pod PodRef, cmd ...string) (command.Result, error) {
	var out, errs bytes.Buffer
	code, err := c.ExecStream(ctx, pod, Streams{Stdout: &out, Stderr: &errs}, cmd...)
	if err != nil {
		return command.Result{}, err
	}
	return command.Result{Stdout: out.Bytes(), Stderr: errs.Bytes(), Code: code}, nil
}

// ExecStream is [Client.Exec] with the caller's streams. It returns the exit status.
func (c *Client) ExecStream(ctx context.Context, pod PodRef, s Streams, cmd ...string) (int, error) {
	err := c.stream(ctx, pod, s, cmd)
	var code utilexec.CodeExitError
	if errors.As(err, &code) {
		return code.Code, nil
	}
	if err != nil {
		return 0, fmt.Errorf("run %q in pod %s: %w", strings.Join(cmd, " "), pod, err)
	}
	return 0, nil
}

func (c *Client) stream(ctx context.Context, pod PodRef, s Streams, cmd []string) error {
	req := c.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: pod.Container, Command: cmd,
			Stdin: s.Stdin != nil, Stdout: s.Stdout != nil, Stderr: s.Stderr != nil && !s.TTY, TTY: s.TTY,
		}, scheme.ParameterCodec)
	ws, err := remotecommand.NewWebSocketExecutor(c.Config, "GET", req.URL().String())
	if err != nil {
		return err
	}
	spdy, err := remotecommand.NewSPDYExecutor(c.Config, "POST", req.URL())
	if err != nil {
		return err
	}
	// API servers before 1.30 know only the older protocol.
	ex, err := remotecommand.NewFallbackExecutor(ws, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	if err != nil {
		return err
	}
	opts := remotecommand.StreamOptions{Stdin: s.Stdin, Stdout: s.Stdout, Tty: s.TTY, TerminalSizeQueue: s.Resize}
	if !s.TTY {
		opts.Stderr = s.Stderr
	}
	for range execTries {
		// Of an input some may be gone by then.
		if err = ex.StreamWithContext(ctx, opts); !notBegun(err) || s.Stdin != nil || ctx.Err() != nil {
			break
		}
	}
	return err
}

// execTries is how often a command is started that a container runtime loses before it has begun.
const execTries = 3

// notBegun tells an error of a container runtime that lost the process which was to become the command: runc's own, before
// it read what it was to run ("waiting for init preliminary setup: read init-p: connection reset by peer",
// libcontainer/process_linux.go). It passes; that there is no such command does not.
func notBegun(err error) bool {
	return err != nil && strings.Contains(err.Error(), "failed to start exec") && strings.Contains(err.Error(), "read init-p:")
}
