package datapath

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/datapath/lb/lbtest"
	"wirelab.dev/wirelab/internal/api"
)

// TestChangesInTheMaps holds that Services changed one after the other leave the kernel's maps as if they had been
// written at once.
func TestChangesInTheMaps(t *testing.T) {
	for _, disputed := range []bool{false, true} {
		t.Run(fmt.Sprintf("disputed=%v", disputed), func(t *testing.T) { testChanges(t, disputed) })
	}
}

func testChanges(t *testing.T, disputed bool) {
	m := newModel(t)
	changes := lbtest.NewChanges(disputed)
	for step := range 300 {
		m.services = changes.Next()
		m.apply()
		if step%25 == 24 { // reading all of the maps takes long
			m.compareWithFresh(step)
		}
	}
}

// compareWithFresh holds what the maps have against maps that were empty.
func (m *model) compareWithFresh(step int) {
	m.t.Helper()
	specs, err := mapSpecs()
	m.must(err)
	empty := &serviceMaps{}
	for name, slot := range map[string]**ebpf.Map{
		bpf.PodMapLabServices: &empty.services, bpf.PodMapLabSlots: &empty.slots, bpf.PodMapLabBackends: &empty.backends, bpf.PodMapLabSources: &empty.sources,
	} {
		*slot, err = ebpf.NewMap(specs[name])
		m.must(err)
		defer (*slot).Close()
	}
	fresh := lb.New(empty.balanced())
	var node lb.Node
	m.ns.Do(func() { node, err = m.d.node(m.t.Context()) })
	m.must(err)
	_, err = fresh.Apply(lb.State{Services: m.services}, node)
	m.must(err)
	inFresh, err := empty.balanced().Read()
	m.must(err)
	got, err := m.d.Services().List(m.t.Context())
	m.must(err)
	want := withoutIDs(inFresh.List(fresh.Names()))
	if got = withoutIDs(got); !reflect.DeepEqual(got, want) {
		m.t.Fatalf("step %d: the maps have\n%+v\nwant\n%+v", step, got, want)
	}
}

// withoutIDs is the list without what depends on who came first.
func withoutIDs(list []api.Frontend) []api.Frontend {
	for i := range list {
		list[i].ID = 0
		for j := range list[i].Backends {
			list[i].Backends[j].ID = 0
		}
	}
	return list
}
