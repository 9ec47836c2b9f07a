package serve

import (
	"maps"
	"sync"
	"time"
)

const (
	reasonsApart = 10 * time.Second
	maxReasons   = 8
)

// Reasons bounds what strangers can have logged by being refused: a reason again after ten seconds only, and no more than eight in
// that time. So one that tries again and again keeps nobody else's reason out of the log.
type Reasons struct {
	mu     sync.Mutex
	logged map[string]time.Time
}

// Due says whether to log the reason now.
func (r *Reasons) Due(reason string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.logged, func(_ string, at time.Time) bool { return now.Sub(at) >= reasonsApart })
	if _, logged := r.logged[reason]; logged || len(r.logged) == maxReasons {
		return false
	}
	if r.logged == nil {
		r.logged = map[string]time.Time{}
	}
	r.logged[reason] = now
	return true
}
