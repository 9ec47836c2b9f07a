package datapath

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/api"
)

// changeOne changes how one of the services is used, not where it is.
func changeOne(services []lb.Service, random *rand.Rand) {
	s := &services[random.IntN(len(services))]
	switch random.IntN(5) {
	case 0:
		s.Affinity = time.Duration(random.IntN(3)) * time.Minute
	case 1:
		s.ExternalLocal = !s.ExternalLocal
	case 2:
		s.SourceRanges = nil
		if random.IntN(2) == 0 {
			s.SourceRanges = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(random.IntN(4)), 0}), 24)}
		}
	default:
		s.Backends = nil
		for i := range random.IntN(6) {
			b := lb.Backend{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, byte(10 + random.IntN(20))}), uint16(8000+i))}
			b.Ready = random.IntN(4) > 0
			b.Serving, b.Terminating = true, !b.Ready
			b.Node = []string{"a", "b"}[random.IntN(2)]
			s.Backends = append(s.Backends, b)
		}
	}
}

// TestChangesInTheMaps holds that Services changed one after the other leave the kernel's maps as if they had been
// written at once.
func TestChangesInTheMaps(t *testing.T) {
	for _, disputed := range []bool{false, true} {
		t.Run(fmt.Sprintf("disputed=%v", disputed), func(t *testing.T) { testChanges(t, disputed) })
	}
}

func testChanges(t *testing.T, disputed bool) {
	m := newModel(t)
	random := rand.New(rand.NewPCG(7, 7))
	all := make([]lb.Service, 12)
	for i := range all {
		shared := i
		if disputed {
			shared = i / 2 // every other claims what its neighbour has
		}
		all[i] = lb.Service{Namespace: "n", Name: fmt.Sprint("s", i), Proto: "tcp", Frontends: []lb.Frontend{
			{Kind: lb.ClusterIP, Addr: netip.AddrFrom4([4]byte{10, 96, 1, byte(i)}), Port: 80},
			{Kind: lb.NodePort, Port: uint16(30000 + i)},
			{Kind: lb.LoadBalancer, Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + shared)}), Port: 80},
		}}
	}
	there := map[int]bool{}
	for step := range 300 {
		switch i := random.IntN(len(all)); random.IntN(4) {
		case 0:
			there[i] = !there[i]
		case 1: // other addresses, also such as another had before
			all[i].Frontends[1].Port = uint16(30000 + 20*random.IntN(3) + i)
		default:
			changeOne(all, random)
		}
		m.services = nil
		for i, s := range all {
			if there[i] {
				s.Frontends = slices.Clone(s.Frontends)
				m.services = append(m.services, s)
			}
		}
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
