package datapath

import (
	"context"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

// While nobody is in a hurry, who is patient is told late; and at once, and with all that was there, when somebody is.
func TestHurry(t *testing.T) {
	m := router(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lines := make(chan api.MonitorLine, 100)
	go func() {
		defer close(lines)
		for line, err := range m.d.Watch(ctx, time.Minute, false) {
			if err != nil {
				t.Error(err)
				return
			}
			lines <- line
		}
	}()
	// drops counts those that are told, for so long or until there is a mark that is not older than upTo, and says whether there was.
	drops := func(upTo time.Time, wait time.Duration) (n int, marked bool) {
		t.Helper()
		for timer := time.After(wait); ; {
			select {
			case line := <-lines:
				if line.Event != nil && line.Event.Type == api.EventDrop {
					n++
				} else if line.Event == nil && !upTo.IsZero() && !line.UpTo.Before(upTo) {
					return n, true
				}
			case <-timer:
				return n, false
			}
		}
	}
	<-lines // it listens from here on
	// The reader's pauses become longer, until it leaves a drop alone.
	for told := 1; told > 0; {
		m.spoofed(1)
		time.Sleep(2 * inFlight)
		told, _ = drops(time.Time{}, time.Second)
	}
	for range 2 {
		upTo, done := m.d.Hurry()
		if n, marked := drops(upTo, 10*time.Second); n == 0 || !marked {
			t.Errorf("in a hurry, %d drops of before are told, and that it is all of them: %v", n, marked)
		}
		m.spoofed(1)
		if n, _ := drops(time.Now(), 10*time.Second); n != 1 {
			t.Errorf("while somebody is in a hurry, %d of 1 drop is told", n)
		}
		done()
		done() // once is enough
		if got := m.d.events.pause(); got != time.Minute {
			t.Errorf("nobody is in a hurry any more, and the reader pauses for %s", got)
		}
		drops(time.Now().Add(time.Hour), 3*Soon) // the last short pause
		m.spoofed(1)
		time.Sleep(2 * inFlight)
	}
}

// The reader comes back before the ring is full if as much comes as did, and soon after there was much.
func TestFilling(t *testing.T) {
	const size = 8 << 10
	for _, c := range []struct {
		name           string
		taken          int
		in, last, want time.Duration
	}{
		{"nothing came", 0, time.Second, time.Second, 2 * time.Second},
		{"little came", 128, time.Second, time.Minute, 8 * time.Second},
		{"an eighth came", 1 << 10, time.Second, time.Second, time.Second},
		{"the ring was full", size, time.Second, time.Second, time.Second / 8},
		{"more than the ring holds was read", 100 * size, time.Second, time.Second, brief},
		{"it goes on after much", 1, brief, brief, 2 * brief},
		{"it was woken at once", 1, 0, time.Second, brief},
	} {
		if got := filling(size, c.taken, c.in, c.last); got != c.want {
			t.Errorf("%s: the pause is %s, want %s", c.name, got, c.want)
		}
	}
}
