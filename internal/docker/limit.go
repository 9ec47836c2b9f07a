package docker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrSilent means that the engine took a request and did not answer it in time.
var ErrSilent = errors.New("docker does not answer")

// How long an engine may take to answer. What it only has to look up takes milliseconds; what it has to do on a disk or with
// the kernel takes seconds, on a busy machine many.
const (
	lookUp = 15 * time.Second
	doIt   = 2 * time.Minute
	// loadDeadline is for an image's archive, of which the largest has some hundred megabytes.
	loadDeadline = 10 * time.Minute
)

// limit bounds one request. late, given its error, tells an engine that was silent from a caller who has ended.
func limit(ctx context.Context, d time.Duration) (lctx context.Context, late func(error) error, cancel context.CancelFunc) {
	cause := fmt.Errorf("%w: nothing within %s: look at the engine's log and restart it", ErrSilent, d)
	lctx, cancel = context.WithTimeoutCause(ctx, d, cause)
	return lctx, func(err error) error {
		if err != nil && errors.Is(context.Cause(lctx), ErrSilent) {
			return cause
		}
		return err
	}, cancel
}

// asking bounds a function that asks one thing, as limit does. The function defers done with the words for what it
// asked, which are then in front of its error.
func asking(
	ctx context.Context, d time.Duration, err *error,
) (lctx context.Context, done func(format string, args ...any)) {
	lctx, late, cancel := limit(ctx, d)
	return lctx, func(format string, args ...any) {
		defer cancel()
		if *err != nil {
			*err = fmt.Errorf(format+": %w", append(args, late(*err))...)
		}
	}
}
