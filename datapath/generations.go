package datapath

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// generation is who raises the number by which the programs tell that decisions of before count no more: the
// first of lab_generations. It is read, raised and written, which is one step only for who is alone with it. A
// number that came again would bring decisions back to life that were made when it was there before.
type generation struct {
	mu sync.Mutex // among goroutines
	// dir is an open file of the directory that the maps are pinned in: locked, it keeps other processes out.
	dir int
}

func openGeneration(dir string) (*generation, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open pin directory %s: %w", dir, err)
	}
	return &generation{dir: fd}, nil
}

func (g *generation) close() error {
	if g == nil {
		return nil
	}
	return unix.Close(g.dir)
}

// hold waits until nobody else raises the generation.
func (g *generation) hold() (release func(), err error) {
	g.mu.Lock()
	for {
		if err = unix.Flock(g.dir, unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		g.mu.Unlock()
		return nil, fmt.Errorf("lock the generation of decisions: %w", err)
	}
	return func() {
		unix.Flock(g.dir, unix.LOCK_UN) //nolint:errcheck // a lock of ours
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
