package datapath

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/bpf"
)

// tables are the content of the service maps, in the maps' own terms.
type tables struct {
	frontends map[bpf.ServiceKey]bpf.Service
	// lists are the runs of lab_slots that frontends point at, by first slot: indexes of lab_backends.
	lists    map[uint32][]uint32
	backends map[uint32]bpf.Backend
	sources  map[bpf.SourceKey]bpf.Source
}

func newTables() *tables {
	return &tables{
		frontends: map[bpf.ServiceKey]bpf.Service{},
		lists:     map[uint32][]uint32{},
		backends:  map[uint32]bpf.Backend{},
		sources:   map[bpf.SourceKey]bpf.Source{},
	}
}

// capacity is how much fits into the maps.
type capacity struct{ frontends, slots, backends, sources uint32 }

func (m *serviceMaps) capacity() capacity {
	return capacity{m.services.MaxEntries(), m.slots.MaxEntries(), m.backends.MaxEntries(), m.sources.MaxEntries()}
}

// batchSize is how many entries one system call reads or writes.
const batchSize = 4096

// extent is how much of the arrays has been in use: nothing points behind that.
type extent struct{ backends, slots uint32 }

// everything is the extent of arrays that nothing is known of.
func (m *serviceMaps) everything() extent {
	return extent{backends: m.backends.MaxEntries(), slots: m.slots.MaxEntries()}
}

func (t *tables) extent() (e extent) {
	for id := range t.backends {
		e.backends = max(e.backends, id+1)
	}
	for first, list := range t.lists {
		e.slots = max(e.slots, first+uint32(len(list)))
	}
	return e
}

// read fills tables from the pinned maps, as far as they are in use.
func (m *serviceMaps) read(used extent) (*tables, error) {
	t := newTables()
	err := errors.Join(
		eachBatch(m.services, func(k bpf.ServiceKey, v bpf.Service) { t.frontends[k] = v }),
		untilBatch(m.backends, func(id uint32, b bpf.Backend) bool {
			if id < used.backends && b.Service != 0 {
				t.backends[id] = b
			}
			return id < used.backends
		}),
		eachEntry(m.sources, func(k bpf.SourceKey, v bpf.Source) { t.sources[k] = v }),
	)
	if err != nil {
		return nil, fmt.Errorf("read services: %w", err)
	}
	slots := make([]uint32, 0, used.slots)
	err = untilBatch(m.slots, func(i, backend uint32) bool {
		if i < used.slots {
			slots = append(slots, backend)
		}
		return i < used.slots
	})
	if err != nil {
		return nil, fmt.Errorf("read services' backends: %w", err)
	}
	for _, s := range t.frontends {
		if s.Count > 0 && uint64(s.First)+uint64(s.Count) <= uint64(len(slots)) {
			t.lists[s.First] = slices.Clone(slots[s.First : s.First+s.Count])
		}
	}
	return t, nil
}

// eachBatch calls f for every entry of a hash map or array, with few system calls. Entries that are added
// or removed meanwhile may be missed.
func eachBatch[K, V any](m *ebpf.Map, f func(K, V)) error {
	return untilBatch(m, func(k K, v V) bool {
		f(k, v)
		return true
	})
}

// untilBatch is eachBatch until f returns false; arrays have their entries in order.
func untilBatch[K, V any](m *ebpf.Map, f func(K, V) bool) error {
	keys, values := make([]K, batchSize), make([]V, batchSize)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read map %s: %w", m, err)
		}
		for i := range n {
			if !f(keys[i], values[i]) {
				return nil
			}
		}
		if err != nil {
			return nil
		}
	}
}

// run is a row of slots.
type run struct{ first, count uint32 }

// rows hands out free rows of slots.
type rows struct{ free []run }

// freeRows are what lists leave over: they are not written to while a packet may still read them.
func freeRows(lists map[uint32][]uint32, size uint32) *rows {
	used := make([]run, 0, len(lists))
	for first, list := range lists {
		used = append(used, run{first, uint32(len(list))})
	}
	slices.SortFunc(used, func(a, b run) int { return cmp.Compare(a.first, b.first) })
	r := &rows{}
	next := uint32(0)
	for _, u := range used {
		if u.first > next {
			r.free = append(r.free, run{next, u.first - next})
		}
		next = max(next, u.first+u.count)
	}
	if next < size {
		r.free = append(r.free, run{next, size - next})
	}
	return r
}

// take is the first row of the length.
func (r *rows) take(count uint32) (first uint32, ok bool) {
	for i := range r.free {
		f := &r.free[i]
		if f.count < count {
			continue
		}
		first = f.first
		f.first += count
		f.count -= count
		if f.count == 0 {
			r.free = slices.Delete(r.free, i, i+1)
		}
		return first, true
	}
	return 0, false
}

// give takes a row back.
func (r *rows) give(back run) {
	i, _ := slices.BinarySearchFunc(r.free, back, func(a, b run) int { return cmp.Compare(a.first, b.first) })
	r.free = slices.Insert(r.free, i, back)
	if next := i + 1; next < len(r.free) && back.first+back.count == r.free[next].first {
		r.free[i].count += r.free[next].count
		r.free = slices.Delete(r.free, next, next+1)
	}
	if i > 0 && r.free[i-1].first+r.free[i-1].count == back.first {
		r.free[i-1].count += r.free[i].count
		r.free = slices.Delete(r.free, i, i+1)
	}
}

// toNetwork is fromNetwork the other way round, and the same operation.
func toNetwork(n uint16) uint16 { return fromNetwork(n) }

func frontendKey(addr netip.Addr, port uint16, proto uint8, scope bpf.Scope) bpf.ServiceKey {
	return bpf.ServiceKey{Addr: toIP(addr), Port: toNetwork(port), Proto: proto, Scope: scope}
}
