package ui

// rateSeconds is how long a rate is the average of.
const rateSeconds = 5

// rate counts what happens a second, on average of the last whole seconds.
type rate struct {
	counts [rateSeconds + 1]uint32
	latest int64 // the second that was counted last
}

func (r *rate) count(second int64) {
	r.forget(second)
	if r.latest-second <= rateSeconds {
		r.counts[second%(rateSeconds+1)]++
	}
}

// forget makes second the latest one, if it is later.
func (r *rate) forget(second int64) {
	if second-r.latest > rateSeconds {
		*r = rate{latest: second}
		return
	}
	for r.latest < second {
		r.latest++
		r.counts[r.latest%(rateSeconds+1)] = 0
	}
}

// perSecond leaves out the second that is not over yet.
func (r *rate) perSecond(second int64) float64 {
	r.forget(second)
	var sum uint32
	for s := second - rateSeconds; s < second; s++ {
		sum += r.counts[s%(rateSeconds+1)]
	}
	return float64(sum) / rateSeconds
}
