package lb

import (
	"errors"
	"fmt"
	"slices"

	"wirelab.dev/wirelab/bpf"
)

// Map is a map of the kernel: an array, a hash or a trie. Nobody else writes to it while a Balancer works.
type Map[K, V comparable] interface {
	// Size is how many entries it has room for.
	Size() uint32
	// Each calls f for every entry until f returns false; of an array in order.
	Each(f func(K, V) bool) error
	// Put writes entries, which may be there already.
	Put(keys []K, values []V) error
	// Delete removes entries, which may be gone already. Those of an array become zero.
	Delete(keys []K) error
}

// Maps are those by which the programs find Services and backends: see bpf/lib/lb.h.
type Maps struct {
	Services Map[bpf.ServiceKey, bpf.Service]
	Slots    Map[uint32, uint32]
	Backends Map[uint32, bpf.Backend]
	Sources  Map[bpf.SourceKey, bpf.Source]
}

// capacity is how much fits into the maps.
type capacity struct{ frontends, slots, backends, sources uint32 }

func (m Maps) capacity() capacity {
	return capacity{m.Services.Size(), m.Slots.Size(), m.Backends.Size(), m.Sources.Size()}
}

// everything is the extent of arrays of which it is not known how much is in use.
func (m Maps) everything() extent {
	return extent{backends: m.Backends.Size(), slots: m.Slots.Size()}
}

// Read reads all that the maps have.
func (m Maps) Read() (*Tables, error) { return m.read(m.everything()) }

// read reads what the maps have, as far as they are in use.
func (m Maps) read(used extent) (*Tables, error) {
	t := newTables()
	err := errors.Join(
		m.Services.Each(func(k bpf.ServiceKey, v bpf.Service) bool {
			t.frontends[k] = v
			return true
		}),
		m.Backends.Each(func(id uint32, b bpf.Backend) bool {
			if id < used.backends && b.Service != 0 {
				t.backends[id] = b
			}
			return id < used.backends
		}),
		m.Sources.Each(func(k bpf.SourceKey, v bpf.Source) bool {
			t.sources[k] = v
			return true
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("read services: %w", err)
	}
	return t, m.readLists(t, used.slots)
}

// readLists reads the lists of the frontends that t has. Slots behind the last of them are in no list, and are not read:
// the map is large, and mostly empty.
func (m Maps) readLists(t *Tables, used uint32) error {
	var end uint32
	for _, s := range t.frontends {
		if list := uint64(s.First) + uint64(s.Count); list <= uint64(used) {
			end = max(end, uint32(list)) //nolint:gosec // not more than used
		}
	}
	if end == 0 {
		return nil
	}
	slots := make([]uint32, 0, end)
	err := m.Slots.Each(func(i, backend uint32) bool {
		slots = append(slots, backend)
		return i+1 < end
	})
	if err != nil {
		return fmt.Errorf("read services' backends: %w", err)
	}
	for _, s := range t.frontends {
		if s.Count > 0 && uint64(s.First)+uint64(s.Count) <= uint64(len(slots)) {
			t.lists[s.First] = slices.Clone(slots[s.First : s.First+s.Count])
		}
	}
	return nil
}

// write writes the plan into the maps. Entries are written before the entries that refer to them, and removed after those
// no longer refer to them. It returns how many entries it changed or tried to change.
func (m Maps) write(p *plan) (changed int, err error) {
	between := p.transitional()
	steps := []func() (int, error){
		func() (int, error) { return upsert(m.Backends, p.have.backends, between) },
		func() (int, error) { return m.writeLists(p) },
		func() (int, error) { return upsert(m.Sources, p.have.sources, p.want.sources) },
		func() (int, error) { return upsert(m.Services, p.have.frontends, p.want.frontends) },
		func() (int, error) { return remove(m.Services, p.have.frontends, p.want.frontends) },
		func() (int, error) { return remove(m.Sources, p.have.sources, p.want.sources) },
		func() (int, error) { return upsert(m.Backends, between, p.want.backends) },
		func() (int, error) { return remove(m.Backends, p.have.backends, p.want.backends) },
	}
	for _, step := range steps {
		n, err := step()
		changed += n
		if err != nil {
			return changed, fmt.Errorf("write services: %w", err)
		}
	}
	return changed, nil
}

// upsert writes what is new or different.
func upsert[K, V comparable](m Map[K, V], have, want map[K]V) (int, error) {
	var (
		keys   []K
		values []V
	)
	for k, v := range want {
		if old, ok := have[k]; !ok || old != v {
			keys, values = append(keys, k), append(values, v)
		}
	}
	return put(m, keys, values)
}

func put[K, V comparable](m Map[K, V], keys []K, values []V) (int, error) {
	if len(keys) == 0 {
		return 0, nil
	}
	return len(keys), m.Put(keys, values)
}

// remove deletes what is there and not wanted.
func remove[K, V comparable](m Map[K, V], have, want map[K]V) (int, error) {
	var keys []K
	for k := range have {
		if _, ok := want[k]; !ok {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return 0, nil
	}
	return len(keys), m.Delete(keys)
}

// writeLists writes the lists that are not where they were.
func (m Maps) writeLists(p *plan) (int, error) {
	var slots, backends []uint32
	for first, list := range p.want.lists {
		if slices.Equal(p.have.lists[first], list) {
			continue
		}
		for i, id := range list {
			slots, backends = append(slots, first+uint32(i)), append(backends, id)
		}
	}
	return put(m.Slots, slots, backends)
}
