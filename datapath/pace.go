package datapath

import (
	"sync"
	"time"

	"wirelab.dev/wirelab/internal/pulse"
)

// brief is the shortest pause of the reader.
const brief = 5 * time.Millisecond

// Hurry has all consumers told of events within [Soon], until done is called. What happened before upTo is told before the
// first mark that is not older.
func (d *Datapath) Hurry() (upTo time.Time, done func()) {
	h := &d.events
	h.hurry(1)
	h.switching.Lock()
	h.wakeReader()
	h.switching.Unlock()
	return time.Now().Add(-inFlight), sync.OnceFunc(func() { h.hurry(-1) })
}

func (h *hub) hurry(more int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hurries += more
}

// wakeReader ends the reader's pause. It is called with switching held.
func (h *hub) wakeReader() {
	select {
	case h.wake <- struct{}{}:
	default: // it has been told, or there is none
	}
}

// pause is how long the reader may wait, for all who listen, before it looks into the ring again.
func (h *hub) pause() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	pause := time.Minute
	if h.hurries > 0 {
		pause = Soon
	}
	for l := range h.listeners {
		pause = min(pause, l.late)
	}
	return pause
}

// filling is how long the reader may pause until an eighth of a ring of size bytes is full, if events come as they did: taken
// bytes in that time. They may come faster, so a pause is at most twice as long as the last one.
func filling(size, taken int, in, last time.Duration) time.Duration {
	pause := 2 * last
	if taken > 0 {
		pause = min(pause, in*time.Duration(size/8)/time.Duration(taken))
	}
	return max(pause, brief)
}

// together makes a long pause shorter, so that the reader is woken with what is done every second.
func together(pause time.Duration) time.Duration {
	if pause < time.Second {
		return pause
	}
	return pulse.Until(pause.Truncate(time.Second))
}
