package prober

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
)

// lasting is one connection for many requests, one after another. It is not net/http's, which opens connections anew without
// saying so: after one that was reset, and on a busy machine also after none was.
type lasting struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	lost func() // is called when the connection that there was is none any more

	mu     sync.Mutex
	conn   net.Conn // nil until the first request, and when it is lost
	reader *bufio.Reader
}

// send sends a request when those before have been answered. Of one that fails the connection is lost.
func (l *lasting) send(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx := r.Context()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("wait for the requests before: %w", err)
	}
	if l.conn == nil {
		conn, err := l.dial(ctx, "tcp", net.JoinHostPort(r.URL.Hostname(), cmp.Or(r.URL.Port(), "80")))
		if err != nil {
			return nil, err
		}
		l.conn, l.reader = conn, bufio.NewReader(conn)
	}
	if trace := httptrace.ContextClientTrace(ctx); trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{Conn: l.conn})
	}
	response, err := l.exchange(r)
	if err != nil || response.Close {
		l.lost()
		err = errors.Join(err, l.conn.Close())
		l.conn = nil
	}
	return response, err
}

// exchange writes a request and reads the whole answer.
func (l *lasting) exchange(r *http.Request) (*http.Response, error) {
	if deadline, ok := r.Context().Deadline(); ok {
		if err := l.conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	if err := r.Write(l.conn); err != nil {
		return nil, fmt.Errorf("send the request: %w", err)
	}
	response, err := http.ReadResponse(l.reader, r)
	if err != nil {
		return nil, fmt.Errorf("wait for the answer: %w", err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

func (l *lasting) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		_ = l.conn.Close() // there is nothing to lose any more
	}
}
