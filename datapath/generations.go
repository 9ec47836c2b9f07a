package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
)

// generations are the numbers of lab_generations, by which the programs tell that remembered decisions are outdated. The map
// is mapped into this process's memory, so a number is raised atomically, also while programs raise it. A number must not
// come twice: decisions that were made under it would count again.
type generations struct {
	mu     sync.RWMutex // for writing: held by who closes
	memory []byte       // nil: closed
}

func mapGenerations(m *ebpf.Map) (*generations, error) {
	memory, err := unix.Mmap(m.FD(), 0, int(m.ValueSize()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the generations of decisions into memory: %w", err)
	}
	return &generations{memory: memory}, nil
}

func (g *generations) close() error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	memory := g.memory
	g.memory = nil
	if memory == nil {
		return nil
	}
	return unix.Munmap(memory)
}

var errGenerationsClosed = errors.New("begin a new generation of decisions: the maps are closed")

// raise raises the number that which picks.
func (g *generations) raise(which func(*bpf.Generations) *uint32) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.memory == nil {
		return errGenerationsClosed
	}
	all := (*bpf.Generations)(unsafe.Pointer(unsafe.SliceData(g.memory))) //nolint:gosec // it is what the programs have there
	atomic.AddUint32(which(all), 1)
	return nil
}

// newGeneration makes the programs decide anew about all flows whose decisions they remember (bpf/lib/cache.h). It is called
// after every change of a map that decisions rest on, except for changes of a single endpoint.
func (m *maps) newGeneration() error {
	return m.generation.raise(func(g *bpf.Generations) *uint32 { return &g.All })
}

// newEndpointGeneration makes them decide anew about the flows of the pod with that address. It is called after every
// change of that pod's entries.
func (m *maps) newEndpointGeneration(addr netip.Addr) error {
	return m.generation.raise(func(g *bpf.Generations) *uint32 { return &g.Endpoints[endpointPlace(addr)] })
}

// endpointPlace is where endpoint_generation of bpf/lib/basis.h looks.
func endpointPlace(addr netip.Addr) int {
	b := addr.As16()
	return int(binary.BigEndian.Uint32(b[12:]) % uint32(len(bpf.Generations{}.Endpoints)))
}
