// Package serve answers HTTP on the ports and sockets of daemons.
package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"wirelab.dev/wirelab/internal/guard"
)

// TCP serves h on l, which others can reach, until ctx is done, and closes
// l. Requests under way get two seconds more.
func TCP(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h}
	guard.HTTP(srv)
	return serveHTTP(ctx, l, srv)
}

// TLS is TCP for who shows what secure wants to see. Who does not is refused, which is logged as advise words it.
func TLS(ctx context.Context, l net.Listener, secure *tls.Config, h http.Handler, logger *slog.Logger, advise func(error) error) error {
	srv := &http.Server{Handler: h, ErrorLog: log.New(&refusals{log: logger, advise: advise}, "", 0)}
	guard.HTTP(srv)
	return serveHTTP(ctx, tls.NewListener(l, secure), srv)
}

// refusals logs what a server says of handshakes that went wrong.
type refusals struct {
	log     *slog.Logger
	advise  func(error) error
	reasons Reasons
}

func (r *refusals) Write(line []byte) (int, error) {
	said := strings.TrimSpace(string(line))
	_, from, _ := strings.Cut(said, " from ")
	_, reason, _ := strings.Cut(from, ": ") // behind the client's address
	if r.reasons.Due(reason, time.Now()) {
		r.log.Warn("refused a connection", "err", r.advise(errors.New(said)))
	}
	return len(line), nil
}

// Unix is TCP for a socket that only root can connect to, which may
// wait for as long as it wants.
func Unix(ctx context.Context, l net.Listener, h http.Handler) error {
	return serveHTTP(ctx, l, &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute})
}

func serveHTTP(ctx context.Context, l net.Listener, srv *http.Server) error {
	srv.BaseContext = func(net.Listener) context.Context { return ctx }
	done := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		done <- srv.Shutdown(grace)
	})
	err := srv.Serve(l)
	if stop() { // nobody asked for an end
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	if err := <-done; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("stop serving %s: %w", l.Addr(), err)
	}
	return nil
}

// Listen listens on the node's network, where another process may have the
// port: key is the setting that says which.
func Listen(ctx context.Context, addr, key string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for %s (is the port taken on this node?): %w", key, err)
	}
	return l, nil
}
