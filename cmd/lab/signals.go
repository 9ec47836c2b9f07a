package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"wirelab.dev/wirelab/internal/interrupt"
)

// errGone means that nobody reads the output any more: the other end of a pipe is closed, or the terminal.
var errGone = errors.New("nobody reads the output")

// untilTold is a context that ends with the first signal to end, or when end is called, and whose clean-ups end with the
// second. The third kills. A closed terminal is not counted as a second signal: a shell and the kernel may both tell of it.
func untilTold() (ctx context.Context, end context.CancelCauseFunc) {
	stop, second := context.WithCancel(context.Background())
	ctx, end = context.WithCancelCause(interrupt.WithStop(context.Background(), stop))
	told := make(chan os.Signal, 4)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) { // as nohup has it
			signal.Notify(told, s)
		}
	}
	// Without this, a write to a closed pipe kills on the spot. The signal itself is of no interest.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go func() {
		for s := range told {
			switch {
			case ctx.Err() == nil:
				end(context.Canceled)
			case s != syscall.SIGHUP:
				signal.Stop(told)
				second()
				return
			}
		}
	}()
	return ctx, end
}

// watched is an output that ends the command when nobody reads it any more.
type watched struct {
	io.Writer
	gone func(error) // of the calls the first counts
}

func (w *watched) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	// EIO is what a terminal says that has been hung up.
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.EIO) {
		w.gone(errGone)
	}
	return n, err
}

// fileOf is the file that a command's stream is, if it is one.
func fileOf(stream any) (*os.File, bool) {
	if w, ok := stream.(*watched); ok {
		stream = w.Writer
	}
	f, ok := stream.(*os.File)
	return f, ok
}

// isTerminal tells whether a stream of a command is a terminal.
func isTerminal(stream any) bool {
	f, ok := fileOf(stream)
	return ok && term.IsTerminal(int(f.Fd()))
}
