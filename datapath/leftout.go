package datapath

import (
	"log/slog"
	"slices"
	"sync"

	"wirelab.dev/wirelab/internal/api"
)

// leftOutNow is what was left out at the latest [Services.Apply] or [HostPorts.Apply].
type leftOutNow struct {
	mu      sync.Mutex
	current []api.LeftOut
}

// set replaces what was left out before, and logs what is new in it.
func (s *leftOutNow) set(now []api.LeftOut, log *slog.Logger) {
	slices.SortFunc(now, api.LeftOut.Compare)
	now = slices.Compact(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range now {
		if _, known := slices.BinarySearchFunc(s.current, x, api.LeftOut.Compare); !known {
			log.Warn("something is left out", "kind", x.Kind, "name", x.Namespace+"/"+x.Name, "reason", x.Reason, "what", x.Message)
		}
	}
	s.current = now
}

func (s *leftOutNow) get() []api.LeftOut {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.current)
}

// LeftOut is what the latest Apply has left out, sorted.
func (v *Services) LeftOut() []api.LeftOut { return v.d.services.leftOut.get() }

// LeftOut is what the latest Apply has left out, sorted.
func (h *HostPorts) LeftOut() []api.LeftOut { return h.d.hostPortsLeftOut.get() }
