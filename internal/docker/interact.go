package docker

import (
	"context"
	"io"

	"github.com/moby/moby/client"
)

// Terminal is what an interactive command is connected to. Stdin may be nil. With TTY set the command gets a terminal
// and Stderr is not used.
type Terminal struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	TTY            bool
	// Env is added to the command's environment, as NAME=value; may be nil.
	Env []string
	// Resize waits for the terminal's next size in characters; false, or the end of ctx, ends it. May be nil.
	Resize func(ctx context.Context) (width, height uint, ok bool)
}

// Interact runs cmd as root in a running container, connected to t, and returns its exit status. It returns when the
// command ends, also when t.Stdin does not.
func (e *Engine) Interact(ctx context.Context, container string, t Terminal, cmd ...string) (int, error) {
	if t.TTY {
		t.Env = append([]string{"TERM=xterm-256color"}, t.Env...)
	}
	code, err := e.stream(ctx, container, t, false, cmd)
	return code, named(container, cmd, err)
}

// resize passes sizes on. A size that could not be passed on costs a badly drawn screen, not the session.
func (e *Engine) resize(ctx context.Context, id string, next func(context.Context) (uint, uint, bool)) {
	for {
		w, h, ok := next(ctx)
		if !ok || ctx.Err() != nil {
			return
		}
		lctx, _, cancel := limit(ctx, e.lookUp)
		_, _ = e.api.ExecResize(lctx, id, client.ExecResizeOptions{Width: w, Height: h})
		cancel()
	}
}
