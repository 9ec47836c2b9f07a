package datapath

import (
	"log/slog"
	"slices"
	"sync"

	"wirelab.dev/wirelab/datapath/lb"
)

// skips are what was left out at the latest [Services.Apply] or [HostPorts.Apply].
type skips struct {
	mu      sync.Mutex
	current []lb.Skipped
}

// set replaces what was left out before, and logs what is new in it.
func (s *skips) set(now []lb.Skipped, log *slog.Logger) {
	slices.SortFunc(now, lb.Skipped.Compare)
	now = slices.Compact(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range now {
		if _, known := slices.BinarySearchFunc(s.current, x, lb.Skipped.Compare); !known {
			log.Warn("something is left out", "kind", x.Kind, "name", x.Namespace+"/"+x.Name, "reason", x.Reason, "what", x.Message)
		}
	}
	s.current = now
}

func (s *skips) get() []lb.Skipped {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.current)
}

// Skipped is what the latest Apply has left out, sorted.
func (v *Services) Skipped() []lb.Skipped { return v.d.services.skipped.get() }

// Skipped is what the latest Apply has left out, sorted.
func (h *HostPorts) Skipped() []lb.Skipped { return h.d.skippedHostPorts.get() }
