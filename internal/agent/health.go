package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"wirelab.dev/wirelab/internal/agent/guard"
)

// readiness says what keeps pods on this node from working, a sentence each;
// nothing when they do.
type readiness func() []string

// healthHandler answers the kubelet's probes: /healthz as long as the process
// serves at all, /readyz by ready.
func healthHandler(ready readiness) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if problems := ready(); len(problems) > 0 {
			http.Error(w, strings.Join(problems, "\n"), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// serveTCP serves h on l, which others can reach, until ctx is done, and closes
// l. Requests under way get two seconds more.
func serveTCP(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h}
	guard.HTTP(srv)
	return serveHTTP(ctx, l, srv)
}

// serveUnix is serveTCP for a socket that only root can connect to, which may
// wait for as long as it wants.
func serveUnix(ctx context.Context, l net.Listener, h http.Handler) error {
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

// listenTCP listens on the node's network, where another process may have the
// port.
func listenTCP(ctx context.Context, addr, key string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for %s (is the port taken on this node?): %w", key, err)
	}
	return l, nil
}
