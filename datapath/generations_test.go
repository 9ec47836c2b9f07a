package datapath

import (
	"sync"
	"testing"

	"wirelab.dev/wirelab/bpf"
)

func (m *model) generation() uint32 {
	m.t.Helper()
	return m.generations().All
}

func (m *model) generations() (g bpf.Generations) {
	m.t.Helper()
	m.must(m.d.maps.generations.Lookup(uint32(0), &g))
	return g
}

// TestGenerationsOnlyGrow holds that whoever raises the generation, and with whom at once, it is never one
// that was before: a decision of then would count again. The second Datapath stands for another process.
func TestGenerationsOnlyGrow(t *testing.T) {
	m := newModel(t)
	other, err := openMaps(m.d.pins, m.d.cfg)
	m.must(err)
	defer other.close()
	const raisers, times = 8, 1000
	first := m.generation()
	done := make(chan struct{})
	seen := make(chan uint32)
	go func() { // is raised all the while
		last, backwards := first, uint32(0)
		for {
			select {
			case <-done:
				seen <- backwards
				return
			default:
			}
			var now bpf.Generations
			if m.d.maps.generations.Lookup(uint32(0), &now) == nil {
				if int32(now.All-last) < 0 {
					backwards++
				}
				last = now.All
			}
		}
	}()
	var wg sync.WaitGroup
	for i := range raisers {
		raise := m.d.maps.newGeneration
		if i%2 == 1 {
			raise = other.newGeneration
		}
		wg.Go(func() {
			for range times {
				if err := raise(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(done)
	if n := <-seen; n > 0 {
		t.Errorf("it went backwards %d times", n)
	}
	if got := m.generation() - first; got != raisers*times {
		t.Errorf("raised %d times, it is %d later", raisers*times, got)
	}
}
