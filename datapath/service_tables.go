package datapath

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/datapath/lb"
)

// balanced are those of the maps that package lb keeps.
func (m *serviceMaps) balanced() lb.Maps {
	return lb.Maps{
		Services: table[bpf.ServiceKey, bpf.Service]{m.services},
		Slots:    table[uint32, uint32]{m.slots},
		Backends: table[uint32, bpf.Backend]{m.backends},
		Sources:  table[bpf.SourceKey, bpf.Source]{m.sources},
	}
}

// table is a map as package lb wants it, with few system calls.
type table[K, V comparable] struct{ of *ebpf.Map }

// Size is how many entries it has room for.
func (t table[K, V]) Size() uint32 { return t.of.MaxEntries() }

// Each calls f for every entry until it returns false. Of a trie, it may do so for some more, or twice.
func (t table[K, V]) Each(f func(K, V) bool) error {
	if t.of.Type() == ebpf.LPMTrie {
		return eachEntry(t.of, func(k K, v V) { f(k, v) })
	}
	return untilBatch(t.of, f)
}

// Put writes entries.
func (t table[K, V]) Put(keys []K, values []V) error {
	if t.of.Type() == ebpf.LPMTrie { // which knows no batches
		for i, k := range keys {
			if err := t.of.Put(k, values[i]); err != nil {
				return fmt.Errorf("write map %s: %w", t.of, err)
			}
		}
		return nil
	}
	for start := 0; start < len(keys); start += batchSize {
		end := min(start+batchSize, len(keys))
		if _, err := t.of.BatchUpdate(keys[start:end], values[start:end], nil); err != nil {
			return fmt.Errorf("write map %s: %w", t.of, err)
		}
	}
	return nil
}

// Delete removes entries; those of an array become zero.
func (t table[K, V]) Delete(keys []K) error {
	switch t.of.Type() {
	case ebpf.Array:
		return t.Put(keys, make([]V, len(keys)))
	case ebpf.LPMTrie:
		return t.deleteEach(keys)
	}
	for batch := range slices.Chunk(keys, batchSize) {
		_, err := t.of.BatchDelete(batch, nil)
		if errors.Is(err, ebpf.ErrKeyNotExist) { // a batch ends where somebody else was faster
			err = t.deleteEach(batch)
		}
		if err != nil {
			return fmt.Errorf("delete from map %s: %w", t.of, err)
		}
	}
	return nil
}

func (t table[K, V]) deleteEach(keys []K) error {
	for _, k := range keys {
		if err := forget(t.of, k); err != nil {
			return fmt.Errorf("delete from map %s: %w", t.of, err)
		}
	}
	return nil
}

// batchSize is how many entries one system call reads or writes.
const batchSize = 4096

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
	return batches(m, keys, values, func(n int) bool {
		for i := range n {
			if !f(keys[i], values[i]) {
				return false
			}
		}
		return true
	})
}

// batches fills keys and values, slices of batchSize, with one batch of entries after the other, and calls f for each
// with how many there are, until f returns false.
func batches(m *ebpf.Map, keys, values any, f func(n int) bool) error {
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read map %s: %w", m, err)
		}
		if !f(n) || err != nil {
			return nil
		}
	}
}
