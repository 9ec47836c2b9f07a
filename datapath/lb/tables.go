package lb

import (
	"net/netip"

	"wirelab.dev/wirelab/bpf"
)

// Tables are the content of the service maps, in the maps' own terms.
type Tables struct {
	frontends map[bpf.ServiceKey]bpf.Service
	// lists are the runs of lab_slots that frontends point at, by first slot: indexes of lab_backends.
	lists    map[uint32][]uint32
	backends map[uint32]bpf.Backend
	sources  map[bpf.SourceKey]bpf.Source
}

func newTables() *Tables {
	return &Tables{
		frontends: map[bpf.ServiceKey]bpf.Service{},
		lists:     map[uint32][]uint32{},
		backends:  map[uint32]bpf.Backend{},
		sources:   map[bpf.SourceKey]bpf.Source{},
	}
}

// extent is how much of the arrays has been in use: nothing points behind that.
type extent struct{ backends, slots uint32 }

func (t *Tables) extent() (e extent) {
	for id := range t.backends {
		e.backends = max(e.backends, id+1)
	}
	for first, list := range t.lists {
		e.slots = max(e.slots, first+uint32(len(list)))
	}
	return e
}

func frontendKey(addr netip.Addr, port uint16, proto uint8, scope bpf.Scope) bpf.ServiceKey {
	return bpf.ServiceKey{Addr: bpf.IPOf(addr), Port: bpf.PortOf(port), Proto: proto, Scope: scope}
}
