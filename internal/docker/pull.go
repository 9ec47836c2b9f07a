package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/moby/client"
)

// ErrNoRegistry means that no registry answered, or that one stopped answering.
var ErrNoRegistry = errors.New("no registry answers")

// Patience is how long [Engine.Pull] waits.
type Patience struct {
	First time.Duration // for the registry's first answer
	Stall time.Duration // from then on for any progress
}

// Pull pulls an image. It gives up with [ErrNoRegistry] when the registry takes longer than the patience given; a
// download that moves on may take as long as it needs. say is told of the bytes so far and in all, and may be nil.
func (e *Engine) Pull(ctx context.Context, ref string, p Patience, say func(done, total int64)) error {
	pctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(p.First, func() { cancel(fmt.Errorf("%w within %s", ErrNoRegistry, p.First)) })
	defer watch.Stop()

	err := e.pull(pctx, ref, say, func() { watch.Reset(p.Stall) })
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case pctx.Err() != nil:
		err = context.Cause(pctx)
	}
	return fmt.Errorf("pull image %s: %w", ref, err)
}

func (e *Engine) pull(ctx context.Context, ref string, say func(done, total int64), moved func()) error {
	r, err := e.api.ImagePull(ctx, ref, client.ImagePullOptions{})
	if err != nil {
		return err
	}
	defer r.Close()
	type part struct{ done, total int64 }
	parts := map[string]part{}
	for m, err := range r.JSONMessages(ctx) {
		if err != nil {
			return err
		}
		if m.Error != nil {
			return errors.New(m.Error.Message)
		}
		moved()
		if m.Progress == nil || m.Progress.Total == 0 || m.Status != "Downloading" {
			continue
		}
		parts[m.ID] = part{m.Progress.Current, m.Progress.Total}
		if say != nil {
			var sum part
			for _, p := range parts {
				sum.done += p.done
				sum.total += p.total
			}
			say(sum.done, sum.total)
		}
	}
	return nil
}
