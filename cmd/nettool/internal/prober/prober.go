// Package prober sends the probes that checks ask for and says what came back.
package prober

import (
	"context"
	"errors"
	"fmt"
	"time"

	"wirelab.dev/wirelab/verify/probe"
)

// Prober runs probes from the network namespace of its process.
type Prober struct {
	// Identity is what a server started by a serve probe says of itself.
	Identity probe.Identity
}

// failure is what the network did wrong, as opposed to an error, which is that
// the probe could not be sent.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

func failf(format string, args ...any) error { return failure{fmt.Errorf(format, args...)} }

// Run sends one probe and returns its final reply. ready is called once by a
// capture or serve when it is under way, with the reply that says so. When ctx
// ends those two end as well, and answer as if they had been asked to.
func (p Prober) Run(ctx context.Context, request probe.Request, ready func(probe.Reply)) probe.Reply {
	timed, cancel := withTimeout(ctx, request)
	defer cancel()
	start := time.Now()
	reply := probe.Reply{}
	err := p.dispatch(timed, request, &reply, func(r probe.Reply) {
		r.ID, r.Ready = request.ID, true
		ready(r)
	})
	reply.ID = request.ID
	reply.Elapsed = probe.Duration(time.Since(start))
	var failed failure
	switch {
	case errors.As(err, &failed):
		reply.Failure = err.Error()
	case err != nil:
		reply.Error = err.Error()
	}
	return reply
}

// withTimeout is ctx for as long as a request may take.
func withTimeout(ctx context.Context, request probe.Request) (context.Context, context.CancelFunc) {
	timeout := time.Duration(request.Timeout)
	if timeout <= 0 {
		timeout = probe.DefaultTimeout
	}
	return context.WithTimeoutCause(ctx, timeout, failf("no answer within %s", timeout))
}

func (p Prober) dispatch(ctx context.Context, request probe.Request, reply *probe.Reply, ready func(probe.Reply)) error {
	if err := request.Check(); err != nil {
		return err
	}
	kind, err := request.Kind()
	if err != nil {
		return err
	}
	switch kind {
	case "http":
		patient, cancel := withTimeout(context.WithoutCancel(ctx), request)
		defer cancel()
		reply.HTTP, err = getHTTP(ctx, patient, *request.HTTP)
	case "tcp":
		reply.TCP, err = transferTCP(ctx, *request.TCP)
	case "udp":
		reply.UDP, err = askUDP(ctx, *request.UDP)
	case "knock":
		reply.Knock, err = knock(ctx, *request.Knock)
	case "icmp":
		reply.ICMP, err = echo(ctx, *request.ICMP)
	case "arp":
		reply.ARP, err = askARP(ctx, *request.ARP)
	case "dns":
		reply.DNS, err = askDNS(ctx, *request.DNS)
	case "send":
		reply.Send, err = send(*request.Send)
	case "capture":
		reply.Capture, err = capture(ctx, *request.Capture, ready)
	case "serve":
		reply.Serve, err = p.serve(ctx, *request.Serve, ready)
	case "exec":
		reply.Exec, err = run(ctx, *request.Exec)
	case "bpfMap":
		reply.BPFMap, err = readMap(*request.BPFMap)
	default:
		return fmt.Errorf("a %s request is for a batch only", kind)
	}
	return err
}

// until ends reads of conn when ctx ends. The caller runs what it returns when
// it is done with conn.
func until(ctx context.Context, conn interface{ SetReadDeadline(time.Time) error }) func() bool {
	return context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
}

// explainRead says why a read failed: when ctx has ended that is why, and
// the probe's own timeout is a finding, whereas the asker's end is not.
func explainRead(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// canceled tells whether the asker, not the timeout, ended ctx.
func canceled(ctx context.Context) bool { return errors.Is(context.Cause(ctx), context.Canceled) }
