package datapath

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/time/rate"
)

// newNeighbours bounds how often in a second the programs decide anew because of neighbours. Otherwise a neighbour that
// does not answer, and is looked for again and again, would outdate all remembered decisions all the time.
const newNeighbours = 100

// FollowNeighbours makes the programs decide anew when a neighbour has another MAC or is gone: remembered decisions have
// the MAC in them. It returns when ctx is done.
func (d *Datapath) FollowNeighbours(ctx context.Context) error {
	limit := rate.NewLimiter(newNeighbours, 1)
	for ctx.Err() == nil {
		if err := d.followNeighbours(ctx, limit); err != nil {
			return err
		}
	}
	return nil
}

// followNeighbours returns when there is more to hear of than it could, too.
func (d *Datapath) followNeighbours(ctx context.Context, limit *rate.Limiter) error {
	ctx, stop := context.WithCancel(ctx)
	changes := make(chan netlink.NeighUpdate, 64)
	err := netlink.NeighSubscribeWithOptions(changes, ctx.Done(), netlink.NeighSubscribeOptions{
		ErrorCallback: func(err error) {
			if ctx.Err() == nil {
				d.log.Warn("changes of neighbours were missed", "err", err)
			}
		},
	})
	if err != nil {
		stop()
		return fmt.Errorf("listen for changes of neighbours: %w", err)
	}
	defer func() {
		stop()
		for range changes {
		}
	}()
	// What was missed before counts as a change.
	for open := true; open && limit.Wait(ctx) == nil; _, open = <-changes {
		for len(changes) > 0 {
			<-changes
		}
		if err := d.maps.newGeneration(); err != nil {
			return err
		}
	}
	return nil
}
