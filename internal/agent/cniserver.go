package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/ipam"
)

// cniTimeout bounds one call of the CNI plugin, which itself gives up after
// 30 s.
const cniTimeout = 25 * time.Second

// cniServer answers the CNI plugin.
type cniServer struct {
	eps     *endpoints
	proxy   *kubeProxy // pods are added when it is there; nil when nobody waits for it
	cfg     datapath.Config
	observe func(command string, ok bool, took time.Duration) // told of each finished call
	log     *slog.Logger
}

// listenUnix listens on path, in the place of whatever a killed agent left
// there. Only the owner can connect.
func listenUnix(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove a stale socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("restrict %s: %w", path, err)
	}
	return l, nil
}

// serve answers calls until ctx is done and those under way are answered.
// It closes l.
func (s *cniServer) serve(ctx context.Context, l *net.UnixListener) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var calls sync.WaitGroup
	defer calls.Wait()
	for {
		conn, err := l.AcceptUnix()
		if ctx.Err() != nil {
			if conn != nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept a CNI call: %w", err)
		}
		calls.Go(func() {
			defer conn.Close()
			// A call under way is finished although the agent stops.
			s.handle(context.WithoutCancel(ctx), conn)
		})
	}
}

func (s *cniServer) handle(ctx context.Context, conn *net.UnixConn) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, cniTimeout)
	defer cancel()
	req, netns, err := api.ReceiveCNI(conn, start.Add(cniTimeout+time.Second))
	if err != nil {
		s.log.Warn("refused a CNI call", "err", err)
		return
	}
	if netns != nil {
		defer netns.Close()
	}
	reply, err := s.do(ctx, req, netns)
	took := time.Since(start)
	s.observe(req.Command, err == nil, took)
	if err != nil {
		s.log.Warn("CNI call failed", "command", req.Command, "pod", podName(req), "err", err)
		reply.Error = cniErrorOf(req, err)
	} else if req.Command != "STATUS" { // which the runtime asks every few seconds
		s.log.Debug("CNI call", "command", req.Command, "pod", podName(req), "took", took)
	}
	if err := api.ReplyCNI(conn, reply); err != nil {
		s.log.Warn("the CNI plugin did not wait for its answer", "command", req.Command, "pod", podName(req), "err", err)
	}
}

var errNoNetns = errors.New("the call came without the network namespace of the pod")

func (s *cniServer) do(ctx context.Context, req api.CNIRequest, netns *os.File) (api.CNIReply, error) {
	if (req.Command == api.CNIAdd || req.Command == api.CNICheck) && netns == nil {
		return api.CNIReply{}, errNoNetns
	}
	switch req.Command {
	case api.CNIAdd:
		if err := s.proxy.await(ctx); err != nil {
			return api.CNIReply{}, err
		}
		ep, err := s.eps.add(ctx, req, netns)
		if err != nil {
			return api.CNIReply{}, err
		}
		return api.CNIReply{Endpoint: &api.CNIEndpoint{Endpoint: ep, Router: s.cfg.Router()}}, nil
	case api.CNICheck:
		return api.CNIReply{}, s.eps.check(ctx, req, netns)
	case api.CNIDel:
		return api.CNIReply{}, s.eps.remove(ctx, req)
	case api.CNIGC:
		return api.CNIReply{}, s.eps.keep(ctx, req.Valid)
	case api.CNIStatus:
		return api.CNIReply{}, nil // to be answered at all is the answer
	}
	return api.CNIReply{}, fmt.Errorf("command %q is not one of the CNI plugin's", req.Command)
}

// cniErrorOf says err in the specification's codes.
func cniErrorOf(req api.CNIRequest, err error) *api.CNIError {
	code := uint(api.CNIFailed)
	switch {
	case errors.Is(err, ipam.ErrExhausted), errors.Is(err, ipam.ErrKnown), errors.Is(err, datapath.ErrAddrInUse), errors.Is(err, context.DeadlineExceeded):
		code = api.CNITryAgain
	case req.Command == api.CNICheck:
		code = api.CNIMismatch
	}
	return &api.CNIError{Code: code, Msg: err.Error()}
}
