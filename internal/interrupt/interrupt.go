// Package interrupt carries a person's second "stop" to where things are undone. The first ends a command's context, and
// what it has made is taken away again, in a context that lives on. The second ends that one, too.
package interrupt

import (
	"context"
	"errors"
	"time"
)

// ErrStopped is why a clean-up ended before its end.
var ErrStopped = errors.New("stopped by a second interrupt")

type key struct{}

// WithStop is ctx for a command whose clean-ups end when stop does. stop ends no earlier than ctx.
func WithStop(ctx, stop context.Context) context.Context { return context.WithValue(ctx, key{}, stop) }

// Cleanup is a context to undo things in. It outlives ctx, and ends after d, or when [WithStop]'s stop does.
func Cleanup(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d)
	stop, ok := ctx.Value(key{}).(context.Context)
	if !ok {
		return cctx, cancel
	}
	sctx, stopped := context.WithCancelCause(cctx)
	free := context.AfterFunc(stop, func() { stopped(ErrStopped) })
	return sctx, func() { free(); stopped(nil); cancel() }
}

// Stopped tells whether clean-ups of ctx are to end.
func Stopped(ctx context.Context) bool {
	stop, ok := ctx.Value(key{}).(context.Context)
	return ok && stop.Err() != nil
}
