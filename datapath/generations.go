package datapath

import (
	"fmt"
	"os"
	"sync"

	"wirelab.dev/wirelab/internal/filelock"
)

// generation is who raises the number by which the programs tell that decisions of before count no more: the
// first of lab_generations. It is read, raised and written, which is one step only for who is alone with it. A
// number that came again would bring decisions back to life that were made when it was there before.
type generation struct {
	mu sync.Mutex // among goroutines
	// dir is the directory that the maps are pinned in: locked, it keeps other processes out.
	dir *os.File
}

func openGeneration(dir string) (*generation, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open the pin directory: %w", err)
	}
	return &generation{dir: f}, nil
}

func (g *generation) close() error {
	if g == nil {
		return nil
	}
	return g.dir.Close()
}

// hold waits until nobody else raises the generation.
func (g *generation) hold() (release func(), err error) {
	g.mu.Lock()
	if err := filelock.Wait(g.dir); err != nil {
		g.mu.Unlock()
		return nil, fmt.Errorf("keep the generation of decisions: %w", err)
	}
	return func() {
		_ = filelock.Free(g.dir) // a lock of ours
		g.mu.Unlock()
	}, nil
}

// newGeneration has the programs decide anew about flows whose fate they remember (bpf/lib/cache.h). It
// follows every change of a map that their decisions rest on.
func (m *maps) newGeneration() error {
	release, err := m.generation.hold()
	if err != nil {
		return err
	}
	defer release()
	var generation, all uint32
	if err := m.generations.Lookup(all, &generation); err != nil {
		return fmt.Errorf("read the generation of decisions: %w", err)
	}
	if err := m.generations.Put(all, generation+1); err != nil {
		return fmt.Errorf("begin a new generation of decisions: %w", err)
	}
	return nil
}
