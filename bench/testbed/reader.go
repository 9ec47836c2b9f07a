package testbed

import (
	"context"
	"fmt"
	"sync/atomic"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/api"
)

// late is how long events may wait in the ring. An agent that keeps flows takes them less often, and loses some where many
// come at once to a ring that was empty; here all are to be read, from the first on.
const late = datapath.Soon / 10

// reader reads a node's events.
type reader struct {
	read, lost atomic.Int64
}

// listen gives the node a reader, until the bed is closed.
func (b *Bed) listen(n *Node) {
	ctx, end := context.WithCancel(context.Background())
	n.reader = &reader{}
	ended := make(chan error, 1)
	go func() { ended <- n.do(func() error { return n.reader.run(ctx, n.dp) }) }()
	b.onClose(func() error {
		end()
		if err := <-ended; err != nil {
			return fmt.Errorf("read the events of %s: %w", n.cfg.NodeName, err)
		}
		return nil
	})
}

func (r *reader) run(ctx context.Context, dp *datapath.Datapath) error {
	for e, err := range dp.Events(ctx, late) {
		switch {
		case err != nil:
			return err
		case e.Type == api.EventLost:
			r.lost.Add(int64(e.Missed))
		default:
			r.read.Add(1)
		}
	}
	return nil
}

// heard has f measure, and fails where the node's events are read and none were, or more than a tenth was lost, which costs less.
func (n *Node) heard(f func() error) error {
	r := n.reader
	if r == nil {
		return f()
	}
	read, lost := r.read.Load(), r.lost.Load()
	if err := f(); err != nil {
		return err
	}
	read, lost = r.read.Load()-read, r.lost.Load()-lost
	if read == 0 || lost > read/10 {
		return fmt.Errorf("of the events of %s %d were read, and %d lost", n.cfg.NodeName, read, lost)
	}
	return nil
}
