package datapath

import (
	"context"
	"iter"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

// Watch is [Datapath.Events] with marks between the events, and steps if they are asked for. A mark says up to when all there
// is has been told; the first one comes at once. Events are to be read only: others have the same.
func (d *Datapath) Watch(ctx context.Context, late time.Duration, steps bool) iter.Seq2[api.MonitorLine, error] {
	return func(yield func(api.MonitorLine, error) bool) {
		began := time.Now()
		for e, err := range d.listenTo(ctx, late, true, steps) {
			line := api.MonitorLine{Event: e}
			switch {
			case err != nil:
				line = api.MonitorLine{}
			case e.Type == joined:
				line = api.MonitorLine{UpTo: began}
			case e.Type == mark:
				line = api.MonitorLine{UpTo: e.Time}
			}
			if !yield(line, err) {
				return
			}
		}
	}
}

// What a listener that wants marks gets between events.
const (
	joined api.EventType = "joined" // it listens from here on
	mark   api.EventType = "mark"   // no event from before its time follows
)

// inFlight is how long a program may take from an event's time to its place in the ring.
const inFlight = time.Millisecond

// mark tells listeners who want to know that all there was before that time has been told.
func (h *hub) mark(upTo time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.listeners {
		if l.marks && len(l.events) < cap(l.events)/2 { // the next one will do as well
			l.events <- &api.Event{Type: mark, Time: upTo}
		}
	}
}

// monitorStatus says who is told of events, and how many were lost.
func (d *Datapath) monitorStatus(s *api.Datapath) error {
	numbers, err := d.sequences()
	if err != nil {
		return err
	}
	counters, err := d.Metrics()
	if err != nil {
		return err
	}
	s.Monitor = api.Monitor{CPUs: len(numbers), RingBytes: int(d.maps.events.MaxEntries()), Listeners: d.events.count()}
	for _, c := range counters {
		if c.Reason == eventLost {
			s.Monitor.Lost += c.Packets
		}
	}
	return nil
}

func (h *hub) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.listeners)
}

// clock tells the time of day at a time of the clock that programs read. One serves for all that is read at a time, so that
// the order of events stays what it was.
type clock struct {
	wall      time.Time
	monotonic uint64
}

// newClock reads both clocks, and again where it was interrupted in between.
func newClock() (c clock) {
	least := uint64(1<<64 - 1)
	for range 3 {
		before, wall, after := monotonic(), time.Now(), monotonic()
		if took := after - before; took < least {
			least, c = took, clock{wall.Round(0), before + took/2}
		}
	}
	return c
}

func (c clock) at(monotonic uint64) time.Time {
	return c.wall.Add(time.Duration(monotonic - c.monotonic)) //nolint:gosec // it may be negative
}
