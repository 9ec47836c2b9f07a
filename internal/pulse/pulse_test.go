package pulse_test

import (
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/pulse"
)

// Whoever waits, from whatever time on, waits for the same moments; and those of a longer time are some of a shorter one's.
func TestUntil(t *testing.T) {
	const shorter, longer = 100 * time.Millisecond, 300 * time.Millisecond
	// moment is the next one. It is read again if the process did not run between two readings of the clock.
	moment := func(every time.Duration) time.Time {
		for {
			before := time.Now()
			wait := pulse.Until(every)
			if time.Since(before) > time.Millisecond {
				continue
			}
			if wait <= 0 || wait > every {
				t.Fatalf("the next moment is in %s, of moments every %s", wait, every)
			}
			return before.Add(wait)
		}
	}
	first, seen := moment(shorter), map[time.Duration]bool{}
	for range 20 {
		time.Sleep(shorter / 7)
		for _, every := range []time.Duration{shorter, longer} {
			since := moment(every).Sub(first)
			seen[since.Round(shorter)] = true
			if off := since - since.Round(shorter); off.Abs() > 2*time.Millisecond {
				t.Errorf("a moment is %s after another one, of moments every %s", since, every)
			}
		}
	}
	if len(seen) < 3 {
		t.Errorf("there are only the moments %v", seen)
	}
}
