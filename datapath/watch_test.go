package datapath

import (
	"context"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

// A mark comes first, and then behind all that happened before its time; also when there is nothing to tell.
func TestMarksFollowWhatTheyAreAbout(t *testing.T) {
	const packets = 500
	m := router(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	began := time.Now()
	var sent, last, upTo time.Time
	events, marks := 0, 0
	for line, err := range m.d.Watch(ctx, Soon, true) {
		m.must(err)
		switch {
		case line.Event == nil && marks == 0:
			if line.UpTo.Before(began) || line.UpTo.After(time.Now()) {
				t.Errorf("the first mark is of %s, of %s in between", line.UpTo, began)
			}
			m.spoofed(packets)
			sent = time.Now()
			marks++
		case line.Event == nil:
			marks++
			upTo = line.UpTo
		default:
			e := *line.Event
			if marks == 0 || e.Time.Before(began) || e.Time.After(sent) {
				t.Fatalf("after %d marks an event of %s, sent before %s", marks, e.Time, sent)
			}
			if upTo.After(e.Time) {
				t.Errorf("an event of %s follows a mark of %s", e.Time, upTo)
			}
			if e.Time.Before(last) {
				t.Errorf("on one CPU, an event of %s follows one of %s", e.Time, last)
			}
			last = e.Time
			if e.Type == api.EventDrop {
				events++
			}
		}
		if upTo.After(sent) && events > 0 {
			break
		}
	}
	if ctx.Err() != nil || events != packets {
		t.Errorf("%d events and %d marks, the last one of %s; want %d events and a mark from after %s", events, marks, upTo, packets, sent)
	}
	// Who does not ask for marks gets none.
	plain, err := m.d.listen(Soon)
	m.must(err)
	defer m.d.unlisten(plain)
	select {
	case e := <-plain.events:
		t.Errorf("%+v", e)
	case <-time.After(3 * Soon):
	}
	s, err := m.d.Status(t.Context())
	m.must(err)
	if got := s.Monitor; got.Listeners != 1 || got.CPUs < 1 || got.RingBytes < 1<<16 || got.Lost != 0 {
		t.Errorf("the status says %+v, with one listener", got)
	}
}

// Steps are written while somebody watches them, and not for a moment longer, whoever listens to events.
func TestStepsAreReadWhileSomebodyWatches(t *testing.T) {
	m := router(t)
	until := func() (steps uint64) {
		m.must(m.d.maps.eventUntil.Lookup(readSteps, &steps))
		return steps
	}
	watch := func(steps bool, others string) {
		t.Helper()
		for _, err := range m.d.Watch(t.Context(), Soon, steps) {
			m.must(err)
			if got := until() > monotonic(); got != steps {
				t.Errorf("somebody watches, steps asked for: %v, and written: %v; %s", steps, got, others)
			}
			break
		}
		if until() != 0 {
			t.Errorf("nobody watches any more, and steps are written; %s", others)
		}
	}
	for _, steps := range []bool{true, false} {
		watch(steps, "nobody listens else")
	}
	l, err := m.d.listen(time.Minute)
	m.must(err)
	defer m.d.unlisten(l)
	for _, steps := range []bool{true, false} {
		watch(steps, "somebody listens besides")
	}
}

// Times of events keep their order, whatever the wall clock does between two readings of it.
func TestClock(t *testing.T) {
	c := newClock()
	if now, by := time.Now(), c.at(monotonic()); now.Sub(by).Abs() > time.Second {
		t.Errorf("at %s it says %s", now, by)
	}
	if earlier := c.at(c.monotonic - 5); !earlier.Equal(c.wall.Add(-5)) {
		t.Errorf("5 ns before %s is %s", c.wall, earlier)
	}
}
