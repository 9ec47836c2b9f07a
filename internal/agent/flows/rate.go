package flows

import "time"

// rate counts what comes in each second of the last minute.
type rate struct {
	counts [seconds]uint32
	last   int64 // the second that was counted last, Unix time
	first  int64 // the one that was counted first
}

const seconds = 60

func (r *rate) count(now time.Time) {
	r.turn(now.Unix())
	r.counts[r.last%seconds]++
}

// turn forgets what is older than a minute.
func (r *rate) turn(now int64) {
	if r.first == 0 {
		r.first, r.last = now, now
		return
	}
	for ; r.last < now; r.last++ {
		r.counts[(r.last+1)%seconds] = 0
		if now-r.last > seconds {
			r.last = now - seconds - 1
		}
	}
}

func (r *rate) perSecond(now time.Time) float64 {
	if r.first == 0 {
		return 0
	}
	r.turn(now.Unix())
	sum := 0
	for _, n := range r.counts {
		sum += int(n)
	}
	return float64(sum) / float64(min(seconds, r.last-r.first+1))
}
