// Package docker speaks to the Docker engine over its API: what labs, checks and the doctor need and no
// more. It needs no docker binary.
package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"
)

// Errors of [Connect] that a caller may test for.
var (
	// ErrNotRunning means that nothing listens where the engine should be.
	ErrNotRunning = errors.New("docker is not running")
	// ErrDenied means that the engine is there and this user may not speak to it.
	ErrDenied = errors.New("docker refuses this user")
)

// pingDeadline bounds the first contact: an engine that is well answers within milliseconds.
const pingDeadline = 10 * time.Second

// Engine is a connection to a Docker engine. It is safe for concurrent use.
type Engine struct {
	api  *client.Client
	host string
	// lookUp and doIt bound requests; see there.
	lookUp, doIt time.Duration
}

// Connect finds the engine the docker command would speak to (DOCKER_HOST, the current docker context,
// else the default socket) and checks that it answers. The error wraps [ErrNotRunning] or [ErrDenied] where
// that is the reason, and says what to do. The caller closes the engine.
func Connect(ctx context.Context) (*Engine, error) {
	host, err := engineHost(os.Getenv)
	if err != nil {
		return nil, err
	}
	opts := []client.Opt{client.FromEnv}
	if host != "" {
		opts = append(opts, client.WithHost(host))
	}
	api, err := client.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("set up docker client for %q: %w", host, err)
	}
	e := &Engine{api: api, host: api.DaemonHost(), lookUp: lookUp, doIt: doIt}
	pctx, cancel := context.WithTimeout(ctx, pingDeadline)
	defer cancel()
	if _, err := api.Ping(pctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		_ = api.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, explainConnect(e.host, err)
	}
	return e, nil
}

// explainConnect turns a failed first contact into the sentence a person can act on.
func explainConnect(host string, err error) error {
	path := strings.TrimPrefix(host, "unix://")
	switch {
	case errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) || strings.Contains(err.Error(), "permission denied"):
		return fmt.Errorf("%w: no permission for %s: run as root, or add yourself to the group that owns it (usually docker) and log in again", ErrDenied, path)
	case errdefs.IsPermissionDenied(err) || errdefs.IsUnauthorized(err):
		return fmt.Errorf("%w at %s: %w", ErrDenied, host, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %s took a connection and did not answer within %s: look at the engine's log and restart it", ErrNotRunning, host, pingDeadline)
	case errors.Is(err, syscall.ENOENT) || client.IsErrConnectionFailed(err):
		return fmt.Errorf("%w: nothing answers at %s: install and start Docker (make deps does both), or set DOCKER_HOST", ErrNotRunning, path)
	}
	return fmt.Errorf("ask docker at %s: %w", host, err)
}

// Close gives up idle connections. Calling it twice is fine.
func (e *Engine) Close() error { return e.api.Close() }

// Host is the engine's address as a URL, e.g. unix:///var/run/docker.sock.
func (e *Engine) Host() string { return e.host }

// APIVersion is the version of the API agreed on with the engine, e.g. 1.41.
func (e *Engine) APIVersion() string { return e.api.ClientVersion() }

// Info is what the engine says about itself and its host.
func (e *Engine) Info(ctx context.Context) (_ system.Info, err error) {
	lctx, done := asking(ctx, e.lookUp, &err)
	defer done("ask docker about its host")
	r, err := e.api.Info(lctx, client.InfoOptions{})
	return r.Info, err
}
