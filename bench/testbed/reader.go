package testbed

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

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
	go func() { ended <- n.Do(func() error { return n.reader.run(ctx, n.dp) }) }()
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

// hear returns what says, later, whether the node's events were read since: an error where none were, or more than a tenth was
// lost, which costs less. Of a node without a reader it is nil.
func (n *Node) hear() func() error {
	r := n.reader
	if r == nil {
		return func() error { return nil }
	}
	read, lost := r.read.Load(), r.lost.Load()
	return func() error {
		for begin := time.Now(); r.read.Load() == read && time.Since(begin) < datapath.Soon; {
			time.Sleep(late) // the last of them may be on their way
		}
		read, lost := r.read.Load()-read, r.lost.Load()-lost
		if read == 0 || lost > read/10 {
			return fmt.Errorf("of the events of %s %d were read, and %d lost", n.cfg.NodeName, read, lost)
		}
		return nil
	}
}
