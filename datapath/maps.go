package datapath

import (
	"errors"
	"fmt"
	stdmaps "maps"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/api"
)

const (
	pinRoot = "wirelab"
	// layout is that of the maps. Pinned maps of another version are not read.
	layout = api.MapLayout

	sysctlsMap = "lab_sysctls"

	// bpffsMagic is BPF_FS_MAGIC of linux/magic.h.
	bpffsMagic = 0xcafe4a11
)

// pins knows where things are pinned.
type pins struct{ root string }

func pinsAt(bpffs string) pins { return pins{root: filepath.Join(bpffs, pinRoot)} }

func (p pins) links() string        { return filepath.Join(p.root, "links") }
func (p pins) layouts() string      { return filepath.Join(p.root, "maps") }
func (p pins) maps() string         { return filepath.Join(p.root, "maps", layout) }
func (p pins) link(n string) string { return filepath.Join(p.links(), n) }

// mapAt is where a map is pinned. What was found before us, and what rests, outlives a change of layout.
func (p pins) mapAt(n string) string {
	if n == sysctlsMap || n == restingMap {
		return filepath.Join(p.layouts(), n)
	}
	return filepath.Join(p.maps(), n)
}

func (p pins) prepare() error {
	bpffs := filepath.Dir(p.root)
	if err := requireBPFFS(bpffs); err != nil {
		return err
	}
	for _, dir := range []string{p.links(), p.maps()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make pin directory: %w", err)
		}
	}
	return nil
}

// dropOtherLayouts removes the pins of maps that no program uses any more.
func (p pins) dropOtherLayouts() error {
	dirs, err := os.ReadDir(p.layouts())
	if err != nil {
		return fmt.Errorf("list map layouts: %w", err)
	}
	var errs []error
	for _, dir := range dirs {
		if dir.IsDir() && dir.Name() != layout {
			errs = append(errs, os.RemoveAll(filepath.Join(p.layouts(), dir.Name())))
		}
	}
	return errors.Join(errs...)
}

func requireBPFFS(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	if uint32(fs.Type) != bpffsMagic {
		return fmt.Errorf("%s is not a BPF file system: mount one there (mount -t bpf bpf %s)", dir, dir)
	}
	return nil
}

// maps are the pinned maps. Which programs use which is in bpf/lib/maps.h.
type maps struct {
	endpoints, ifaces, kernelCT, metrics, generations *ebpf.Map
	// events is the ring; who reads it says so in eventUntil, and finds in eventSeq what there was on each CPU.
	events, eventUntil, eventSeq *ebpf.Map
	// observed are the flows that events tell of.
	observed *ebpf.Map
	// generation raises the numbers in generations.
	generation *generations
	// sysctls remembers what was found before anything was changed. It is pinned with the others
	// because it has to live exactly as long as the values do: until reboot or Clean.
	sysctls *ebpf.Map
	// resting are the addresses that endpoints had, see addresses.go.
	resting *ebpf.Map
	// ipcache says who has which address: see bpf/lib/ipcache.h.
	ipcache *ebpf.Map
	// services are nil in the modes that leave Services to others.
	services *serviceMaps
	// predecessors are maps that others have taken the place of, of this size or layout.
	predecessors []predecessor
}

// mapSpecs are the specs of all maps. The pods' program has all but the sockets' own, and ours.
func mapSpecs() (map[string]*ebpf.MapSpec, error) {
	pod, err := bpf.LoadPod()
	if err != nil {
		return nil, err
	}
	sock, err := bpf.LoadSock()
	if err != nil {
		return nil, err
	}
	specs := map[string]*ebpf.MapSpec{}
	for name := range (&maps{services: &serviceMaps{}}).byName() {
		if specs[name] = pod.Maps[name]; specs[name] == nil {
			specs[name] = sock.Maps[name]
		}
	}
	specs[sysctlsMap], specs[restingMap] = sysctlsSpec(), restingSpec()
	return specs, nil
}

// sizedMaps are the specs of the maps that cfg has use of, sized by it, and where these maps go.
func sizedMaps(cfg Config) (*maps, map[string]*ebpf.MapSpec, error) {
	specs, err := mapSpecs()
	if err != nil {
		return nil, nil, err
	}
	m := &maps{}
	specs[bpf.PodMapLabObserved].MaxEntries = 1
	if cfg.observes() {
		specs[bpf.PodMapLabObserved].MaxEntries = uint32(cfg.BPF.CTMax) //nolint:gosec // validated
	}
	if cfg.KubeProxyReplacement {
		m.services = &serviceMaps{}
		for _, name := range flowMaps {
			specs[name].MaxEntries = uint32(cfg.BPF.CTMax) //nolint:gosec // validated
		}
		specs[bpf.PodMapLabTurns].MaxEntries = 1 + turnsOf(cfg.BPF.CTMax)
		specs[bpf.PodMapLabKernelCt].MaxEntries = 1 // the stack translates nothing then
	}
	return m, specs, nil
}

// openMaps adopts the pinned maps and makes those that are missing or of another shape. A map that takes
// an older one's place is in use by no program yet; the old one lives on until no program uses it.
func openMaps(p pins, cfg Config) (_ *maps, err error) {
	if err := growSysctls(p.mapAt(sysctlsMap)); err != nil {
		return nil, err
	}
	m, specs, err := sizedMaps(cfg)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	old, err := p.older()
	if err != nil {
		return nil, err
	}
	for name, slot := range m.byName() {
		before, convert, err := old.hand(name, p.mapAt(name))
		if err != nil {
			return nil, err
		}
		m.takeOver(before, name, slot, convert)
		if *slot, before, err = openMap(specs[name], p.mapAt(name)); err != nil {
			return nil, err
		}
		m.takeOver(before, name, slot, nil)
	}
	// An attempt that was cut off may have carried over what has changed since, or let programs of this layout see newer flows.
	if err := m.carryOver(ebpf.UpdateAny); err != nil {
		return nil, err
	}
	if m.generation, err = mapGenerations(m.generations); err != nil {
		return nil, err
	}
	return m, nil
}

// openMap returns the map, and the one that it took the place of if that one's entries are worth carrying over.
func openMap(spec *ebpf.MapSpec, path string) (m, before *ebpf.Map, err error) {
	m, err = ebpf.LoadPinnedMap(path, nil)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, nil, fmt.Errorf("open pinned map %s: %w", spec.Name, err)
	case spec.Compatible(m) == nil:
		return m, nil, nil
	default:
		if isOutgrown(spec, m) {
			before = m
		} else {
			m.Close()
		}
		if err := os.Remove(path); err != nil {
			return nil, before, fmt.Errorf("unpin map %s of another shape: %w", spec.Name, err)
		}
	}
	if m, err = ebpf.NewMap(spec); err != nil {
		return nil, before, fmt.Errorf("create map %s: %w", spec.Name, err)
	}
	if err := m.Pin(path); err != nil {
		m.Close()
		return nil, before, fmt.Errorf("pin map %s: %w", spec.Name, err)
	}
	return m, before, nil
}

func (m *maps) byName() map[string]**ebpf.Map {
	slots := map[string]**ebpf.Map{
		bpf.PodMapLabEndpoints:   &m.endpoints,
		bpf.PodMapLabIfaces:      &m.ifaces,
		bpf.PodMapLabKernelCt:    &m.kernelCT,
		bpf.PodMapLabMetrics:     &m.metrics,
		bpf.PodMapLabEvents:      &m.events,
		bpf.PodMapLabEventUntil:  &m.eventUntil,
		bpf.PodMapLabEventSeq:    &m.eventSeq,
		bpf.PodMapLabObserved:    &m.observed,
		bpf.PodMapLabGenerations: &m.generations,
		bpf.PodMapLabIpcache:     &m.ipcache,
		sysctlsMap:               &m.sysctls,
		restingMap:               &m.resting,
	}
	if m.services != nil {
		stdmaps.Copy(slots, m.services.byName())
	}
	return slots
}

// forPrograms are the maps to put in the place of those that the objects declare.
func (m *maps) forPrograms(declared map[string]*ebpf.MapSpec) map[string]*ebpf.Map {
	use := map[string]*ebpf.Map{}
	for name, slot := range m.byName() {
		if _, ok := declared[name]; ok {
			use[name] = *slot
		}
	}
	return use
}

func (m *maps) close() error {
	errs := []error{m.closePredecessors()}
	for _, slot := range m.byName() {
		if *slot != nil {
			errs = append(errs, (*slot).Close())
		}
	}
	return errors.Join(append(errs, m.generation.close())...)
}

// eachEntry calls f for every entry of a hash map that other users may change meanwhile: an iteration
// that lost its place is started again, so f may see an entry twice.
func eachEntry[K, V any](m *ebpf.Map, f func(K, V)) error {
	var err error
	for range 10 {
		var (
			key   K
			value V
		)
		it := m.Iterate()
		for it.Next(&key, &value) {
			f(key, value)
		}
		if err = it.Err(); !errors.Is(err, ebpf.ErrIterationAborted) {
			break
		}
	}
	return err
}
