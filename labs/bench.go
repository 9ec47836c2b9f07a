package labs

import (
	"context"
	"time"

	"wirelab.dev/wirelab/bench"
	benchlab "wirelab.dev/wirelab/bench/lab"
)

// BenchOptions are those of [Lab.Bench].
type BenchOptions struct {
	// Rounds is how often every path is measured, Idle how long the agents are watched.
	Rounds int
	Idle   time.Duration
	// Progress may be nil.
	Progress func(what string, done, of int)
}

// Bench measures the lab. The error wraps [ErrBusy] while another command is at work on it.
// Nodes that lack the image it is measured from get it.
func (l *Lab) Bench(ctx context.Context, o BenchOptions) (*bench.Report, error) {
	unlock, err := lock(ctx, l.Engine, l.Name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	nettool, err := l.loadNettool(ctx)
	if err != nil {
		return nil, err
	}
	return benchlab.Run(ctx, benchlab.Config{
		Mode: string(l.Profile.Mode()), Kube: l.Kube, Nodes: l.Nodes, Image: nettool,
		Rounds: o.Rounds, Idle: o.Idle, Progress: o.Progress,
	})
}
