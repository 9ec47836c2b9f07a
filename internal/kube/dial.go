package kube

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
)

// Dial runs cmd in a pod, and connects with its input and output. The end of the connection is the end of the command's
// input, however it comes about: the command has to end then. That it cannot be run, or has failed, is an error of the first
// Read after what it has written, and of a Write.
func (c *Client) Dial(pod PodRef, cmd ...string) net.Conn {
	near, far := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	conn := &execConn{Conn: near, cancel: cancel}
	go func() {
		defer far.Close()
		var errs bytes.Buffer
		code, err := c.ExecStream(ctx, pod, Streams{Stdin: far, Stdout: far, Stderr: &errs}, cmd...)
		if err == nil && code != 0 { // with an error, errs may still be written to
			if words := strings.TrimSpace(errs.String()); words != "" {
				err = errors.New(words)
			}
		}
		conn.fail(err)
	}()
	return conn
}

// execConn is a command in a pod as a connection.
type execConn struct {
	net.Conn
	cancel context.CancelFunc
	err    atomic.Pointer[error] // how the command ended; nil: it has not
}

func (c *execConn) fail(err error) { c.err.Store(&err) }

// Read tells what went wrong in the place of an end that nobody asked for.
func (c *execConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return n, c.explain(err)
}

// Write does so, too.
func (c *execConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	return n, c.explain(err)
}

func (c *execConn) explain(err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		return err
	}
	if why := c.err.Load(); why != nil {
		return cmp.Or(*why, err)
	}
	return err
}

// Close ends the command's input and does not wait for it.
func (c *execConn) Close() error {
	defer c.cancel()
	return c.Conn.Close()
}
