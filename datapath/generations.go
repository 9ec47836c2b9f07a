package datapath

import "fmt"

// newGeneration has the programs decide anew about flows whose fate they remember (bpf/lib/cache.h). It
// follows every change of a map that their decisions rest on. Two at once may count as one: whoever decides
// in the new generation sees both changes.
func (m *maps) newGeneration() error {
	var generation, all uint32
	if err := m.generations.Lookup(all, &generation); err != nil {
		return fmt.Errorf("read the generation of decisions: %w", err)
	}
	if err := m.generations.Put(all, generation+1); err != nil {
		return fmt.Errorf("begin a new generation of decisions: %w", err)
	}
	return nil
}
