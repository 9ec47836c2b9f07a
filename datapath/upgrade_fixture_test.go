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
	"github.com/cilium/ebpf/link"
)

// specsV1 are the programs of layout v1, as they were released.
func specsV1(t testing.TB) (specs []*ebpf.CollectionSpec) {
	t.Helper()
	for _, name := range []string{"pod", "host", "netdev", "sock"} {
		packed, err := os.ReadFile(filepath.Join("testdata", "layouts", "v1", name+".o.gz"))
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

// BecomeV1 makes of the node what an agent of layout v1 would have left, had it been opened in the same way: the maps
// and programs of that layout, and nothing of this one's. The datapath is of no use any more.
func (d *Datapath) BecomeV1(t testing.TB) {
	t.Helper()
	dir := filepath.Join(d.pins.layouts(), "v1")
	fatal(t, os.Mkdir(dir, 0o700))
	specs, maps := specsV1(t), map[string]*ebpf.Map{}
	for _, spec := range specs {
		for name, m := range d.mapsV1(t, spec) {
			if maps[name] != nil {
				continue
			}
			maps[name] = m
			fatal(t, m.Pin(filepath.Join(dir, name)))
			t.Cleanup(func() { m.Close() })
		}
	}
	programs := map[string]*ebpf.Program{}
	for _, spec := range specs {
		use := map[string]*ebpf.Map{}
		for name := range spec.Maps {
			if maps[name] != nil {
				use[name] = maps[name]
			}
		}
		fatal(t, errors.Join(setConstants(spec, d.Config()), fit(spec.Maps, use, d.cfg.Mode())))
		if !d.cfg.KubeProxyReplacement && spec.Programs["lab_pod_egress"] == nil && spec.Programs["lab_to_pod"] == nil {
			continue
		}
		loaded, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: use})
		fatal(t, err)
		t.Cleanup(loaded.Close)
		for name, p := range loaded.Programs {
			programs[name] = p
		}
	}
	d.runInstead(t, programs)
	fatal(t, os.RemoveAll(d.pins.maps()))
}

// stepsFrom are the upgrades that lead from a layout to this one.
func stepsFrom(version string) (steps []upgrade) {
	for at := layout; at != version; at = upgrades[at].from {
		steps = append([]upgrade{upgrades[at]}, steps...)
	}
	return steps
}

// mapsV1 are the maps that such programs share: those of now where they are the same.
func (d *Datapath) mapsV1(t testing.TB, spec *ebpf.CollectionSpec) map[string]*ebpf.Map {
	t.Helper()
	found := map[string]*ebpf.Map{}
	for name, slot := range d.maps.byName() {
		was, ok := spec.Maps[name]
		if !ok {
			continue
		}
		was = was.Copy()
		var err error
		if convert, carried := (older{steps: stepsFrom("v1")}).conversions(name); !carried || len(convert) > 0 {
			was.MaxEntries = (*slot).MaxEntries()
			found[name], err = ebpf.NewMap(was)
		} else {
			found[name], err = (*slot).Clone()
		}
		fatal(t, err)
	}
	return found
}

// runInstead puts programs on the hooks that have links.
func (d *Datapath) runInstead(t testing.TB, programs map[string]*ebpf.Program) {
	t.Helper()
	pinned, err := d.pins.pinnedLinks()
	fatal(t, err)
	for _, pin := range pinned {
		name := ""
		switch socket, isSocket := strings.CutPrefix(pin, socketPinPrefix); {
		case isSocket:
			name = "lab_" + socket
		case strings.HasSuffix(pin, "_in"):
			name = "lab_from_network"
		case strings.HasSuffix(pin, "_out"):
			name = "lab_to_network"
		case pin == hostDevice:
			name = "lab_to_pod"
		case hostIfPattern.MatchString(pin):
			name = "lab_pod_egress"
		}
		if programs[name] == nil {
			t.Fatalf("link %s has no program of layout v1", pin)
		}
		l, err := link.LoadPinnedLink(d.pins.link(pin), nil)
		fatal(t, err)
		fatal(t, errors.Join(l.Update(programs[name]), l.Close()))
	}
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%+v", err)
	}
}
