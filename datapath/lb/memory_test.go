package lb

import (
	"fmt"

	"wirelab.dev/wirelab/bpf"
)

// memoryMaps are maps without a kernel.
func memoryMaps(room capacity) Maps {
	return Maps{
		Services: &hash[bpf.ServiceKey, bpf.Service]{entries: map[bpf.ServiceKey]bpf.Service{}, size: room.frontends},
		Slots:    make(array[uint32], room.slots),
		Backends: make(array[bpf.Backend], room.backends),
		Sources:  &hash[bpf.SourceKey, bpf.Source]{entries: map[bpf.SourceKey]bpf.Source{}, size: room.sources},
	}
}

// hash takes no more entries than there is room for.
type hash[K, V comparable] struct {
	entries map[K]V
	size    uint32
}

func (h *hash[K, V]) Size() uint32 { return h.size }

func (h *hash[K, V]) Each(f func(K, V) bool) error {
	for k, v := range h.entries {
		if !f(k, v) {
			break
		}
	}
	return nil
}

func (h *hash[K, V]) Put(keys []K, values []V) error {
	for i, k := range keys {
		if _, ok := h.entries[k]; !ok && len(h.entries) >= int(h.size) {
			return fmt.Errorf("there are %d entries already", h.size)
		}
		h.entries[k] = values[i]
	}
	return nil
}

func (h *hash[K, V]) Delete(keys []K) error {
	for _, k := range keys {
		delete(h.entries, k)
	}
	return nil
}

// array has all of its entries.
type array[V comparable] []V

func (a array[V]) Size() uint32 { return uint32(len(a)) }

func (a array[V]) Each(f func(uint32, V) bool) error {
	for i, v := range a {
		if !f(uint32(i), v) {
			break
		}
	}
	return nil
}

func (a array[V]) Put(keys []uint32, values []V) error {
	for i, k := range keys {
		if k >= a.Size() {
			return fmt.Errorf("there is no entry %d of %d", k, len(a))
		}
		a[k] = values[i]
	}
	return nil
}

func (a array[V]) Delete(keys []uint32) error { return a.Put(keys, make([]V, len(keys))) }
