package lb

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// sized is Service i with as many backends.
func sized(i, backends int) Service {
	s := web()
	s.Name = fmt.Sprintf("s%03d", i)
	s.Frontends[0].Addr = netip.AddrFrom4([4]byte{10, 96, 1, byte(i)})
	for b := range backends {
		s.Backends = append(s.Backends, Backend{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i), byte(b)}), 80), Ready: true})
	}
	return s
}

// What a Service needs of slots is found also where what is free is scattered.
func TestScatteredSlots(t *testing.T) {
	for _, small := range []int{1, 2, 3} {
		t.Run(fmt.Sprint("rows of ", small), func(t *testing.T) {
			b := New(memoryMaps(capacity{frontends: 100, slots: uint32(20 * small), backends: 100, sources: 1}))
			var all, others State
			for i := range 20 {
				all.Services = append(all.Services, sized(i, small))
				if i%2 == 0 {
					others.Services = append(others.Services, sized(i, small))
				}
			}
			if o := apply(t, b, all); len(o.LeftOut) > 0 {
				t.Fatalf("left out: %v", o.LeftOut)
			}
			apply(t, b, others)
			others.Services = append(others.Services, sized(99, 5*small))
			if o := apply(t, b, others); len(o.LeftOut) > 0 {
				t.Fatalf("of %d slots %d are free, and left out is %v", 20*small, 10*small, o.LeftOut)
			}
			compareWithFresh(t, 0, b, others)
		})
	}
}

// Lists that are alike stay one list while they move together.
func TestListsMoveTogether(t *testing.T) {
	both := sized(3, 2)
	both.ExternalLocal = true
	both.Frontends = append(both.Frontends, Frontend{Kind: NodePort, Port: 30000})
	for i := range both.Backends {
		both.Backends[i].Node = nodeA.Name
	}
	have, _ := planOf(newTables(), roomy, State{Services: []Service{sized(1, 3), both}})
	have, _ = planOf(have.want, roomy, State{Services: []Service{both}})
	p := planWhole(have.want, roomy, nodeA, []Service{both}, true)
	checkTables(t, p, roomy)
	if list, ok := p.want.lists[0]; !ok || len(list) != 2 || len(p.want.lists) != 1 {
		t.Errorf("the lists are %v, want one of two backends at 0", p.want.lists)
	}
}

// However long backends come and go, no more slots are in use than twice what there has been at a time.
func TestChurnKeepsSlotsTogether(t *testing.T) {
	const services, largest = 50, 20
	b := New(memoryMaps(capacity{frontends: 100, slots: services * largest * 2, backends: services * largest * 2, sources: 1}))
	random := rand.New(rand.NewPCG(3, 3))
	var now State
	live, most, extent := 0, 0, uint32(0)
	for i := range services {
		now.Services = append(now.Services, sized(i, 0))
	}
	apply(t, b, now)
	for range 20000 {
		i := random.IntN(services)
		s := sized(i, random.IntN(largest+1))
		live += len(s.Backends) - len(now.Services[i].Backends)
		most = max(most, live)
		now.Services[i] = s
		o, err := b.Change(map[Name][]Service{s.id().of(): {s}}, nodeA.Node)
		if err != nil || len(o.LeftOut) > 0 {
			t.Fatalf("left out: %v, %v", o.LeftOut, err)
		}
		extent = max(extent, b.have.extent().slots)
	}
	t.Logf("%d slots reach for at most %d backends", extent, most)
	if int(extent) > 2*most {
		t.Errorf("%d slots reach for at most %d backends", extent, most)
	}
	compareWithFresh(t, 0, b, now)
}
