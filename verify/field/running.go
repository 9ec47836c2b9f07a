package field

import (
	"context"
	"fmt"

	"wirelab.dev/wirelab/verify/probe"
)

// running is one request whose final reply has not been read.
type running struct {
	link    *link
	id      string
	replies chan probe.Reply
	first   probe.Reply
}

// Ready implements [Running].
func (r *running) Ready() probe.Reply { return r.first }

// Wait implements [Running].
func (r *running) Wait(ctx context.Context) (probe.Reply, error) {
	defer r.forget()
	return r.final(ctx)
}

// Stop implements [Running].
func (r *running) Stop(ctx context.Context) (probe.Reply, error) {
	if err := r.link.write(ctx, probe.Request{Cancel: r.id}); err != nil {
		r.forget()
		return probe.Reply{}, fmt.Errorf("%s: end a probe: %w", r.link.name, err)
	}
	return r.Wait(ctx)
}

// final skips a reply that only says ready.
func (r *running) final(ctx context.Context) (probe.Reply, error) {
	for {
		reply, err := r.next(ctx)
		if err != nil || !reply.Ready {
			return reply, err
		}
	}
}

func (r *running) next(ctx context.Context) (probe.Reply, error) {
	var reply probe.Reply
	select {
	case reply = <-r.replies:
	case <-r.link.ended:
		// A reply that came before the end still counts.
		select {
		case reply = <-r.replies:
		default:
			return probe.Reply{}, r.link.err
		}
	case <-ctx.Done():
		return probe.Reply{}, fmt.Errorf("%s: wait for a reply: %w", r.link.name, context.Cause(ctx))
	}
	if reply.Error != "" {
		return reply, fmt.Errorf("%s: the probe could not be sent: %s", r.link.name, reply.Error)
	}
	return reply, nil
}

func (r *running) forget() {
	r.link.mu.Lock()
	defer r.link.mu.Unlock()
	delete(r.link.waiting, r.id)
}
