package datapath

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"wirelab.dev/wirelab/bpf"
)

// LastLayout is the version before the pinned maps' own.
var LastLayout = upgrades[layout].from

// lastSpecs are the programs of that layout, as they were released.
func lastSpecs(t testing.TB) (specs []*ebpf.CollectionSpec) {
	t.Helper()
	for _, name := range []string{"pod", "host", "netdev", "sock"} {
		packed, err := os.ReadFile(filepath.Join("testdata", "layouts", LastLayout, name+".o.gz"))
		fatal(t, err)
		r, err := gzip.NewReader(bytes.NewReader(packed))
		fatal(t, err)
		object, err := io.ReadAll(r)
		fatal(t, err)
		spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
		fatal(t, err)
		specs = append(specs, spec)
	}
	return specs
}

// BecomeLast makes of the node what an agent of the last layout would have left, had it been opened in the same way:
// the maps and programs of that layout, and nothing of this one's. The datapath is of no use any more.
func (d *Datapath) BecomeLast(t testing.TB) {
	t.Helper()
	dir := filepath.Join(d.pins.layouts(), LastLayout)
	fatal(t, os.Mkdir(dir, 0o700))
	specs, maps := lastSpecs(t), map[string]*ebpf.Map{}
	for _, spec := range specs {
		for name, m := range d.lastMaps(t, spec) {
			if maps[name] != nil {
				continue
			}
			maps[name] = m
			fatal(t, m.Pin(filepath.Join(dir, name)))
			t.Cleanup(func() { m.Close() })
		}
	}
	d.fillLast(t, maps)
	programs, kernel := map[string]*ebpf.Program{}, btf.NewCache()
	for _, spec := range specs {
		use := map[string]*ebpf.Map{}
		for name := range spec.Maps {
			if maps[name] != nil {
				use[name] = maps[name]
			}
		}
		fatal(t, errors.Join(setConstants(spec, d.Config()), bpf.ResolveFunctions(spec, kernel), fit(spec.Maps, use, d.cfg.Mode())))
		if !d.cfg.KubeProxyReplacement && spec.Programs["lab_from_pod"] == nil && spec.Programs["lab_to_pod"] == nil {
			continue
		}
		loaded, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: use, Cache: kernel})
		fatal(t, err)
		t.Cleanup(loaded.Close)
		for name, p := range loaded.Programs {
			programs[name] = p
		}
	}
	d.runInstead(t, programs)
	fatal(t, os.RemoveAll(d.pins.maps()))
}

// lastMaps are the maps that such programs share: those of now where they are the same.
func (d *Datapath) lastMaps(t testing.TB, spec *ebpf.CollectionSpec) map[string]*ebpf.Map {
	t.Helper()
	found := map[string]*ebpf.Map{}
	for name, slot := range d.maps.byName() {
		was, ok := spec.Maps[name]
		if !ok {
			continue
		}
		was = was.Copy()
		var err error
		if _, changed := upgrades[layout].changed[name]; changed {
			was.MaxEntries = max(was.MaxEntries, (*slot).MaxEntries())
			found[name], err = ebpf.NewMap(was)
		} else {
			found[name], err = (*slot).Clone()
		}
		fatal(t, err)
	}
	return found
}

// fillLast enters what user space would have entered into maps that are not used on.
func (d *Datapath) fillLast(t testing.TB, maps map[string]*ebpf.Map) {
	t.Helper()
	entries, err := d.maps.endpointEntries()
	fatal(t, err)
	for addr, e := range entries {
		was := endpointOfV2{Ifindex: e.Ifindex, ID: e.Id, Veth: e.Veth}
		copy(was.MACs[copy(was.MACs[:], e.Mac.B[:]):], e.NodeMac.B[:])
		fatal(t, maps[bpf.PodMapLabEndpoints].Put(bpf.IPOf(addr), was))
	}
}

// runInstead puts programs in the place of the same ones of now.
func (d *Datapath) runInstead(t testing.TB, programs map[string]*ebpf.Program) {
	t.Helper()
	hooks, err := d.hooks(t.Context())
	fatal(t, err)
	for _, h := range hooks {
		if programs[h.prog] == nil {
			t.Fatalf("%s of layout %s is not there for %s", h.prog, LastLayout, h.device)
		}
		fatal(t, d.attacher.attach(h, programs[h.prog]))
	}
	pinned, err := d.pins.pinnedLinks()
	fatal(t, err)
	for _, pin := range pinned {
		socket, isSocket := strings.CutPrefix(pin, socketPinPrefix)
		if !isSocket {
			continue
		}
		l, err := link.LoadPinnedLink(d.pins.link(pin), nil)
		fatal(t, err)
		fatal(t, errors.Join(l.Update(programs["lab_"+socket]), l.Close()))
	}
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%+v", err)
	}
}
