package lb

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// changeOne changes how one of the services is used, not where it is.
func changeOne(services []Service, random *rand.Rand) {
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
			b := Backend{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, byte(10 + random.IntN(20))}), uint16(8000+i))}
			b.Ready = random.IntN(4) > 0
			b.Serving, b.Terminating = true, !b.Ready
			b.Node = []string{"a", "b"}[random.IntN(2)]
			s.Backends = append(s.Backends, b)
		}
	}
}

// TestChangesAreLikeAFreshStart holds that Services changed one after the other leave the maps as if
// they had been written at once, and that nothing is planned anew because of one change, unless Services
// claim each other's addresses.
func TestChangesAreLikeAFreshStart(t *testing.T) {
	for _, disputed := range []bool{false, true} {
		t.Run(fmt.Sprintf("disputed=%v", disputed), func(t *testing.T) { testChanges(t, disputed) })
	}
}

func testChanges(t *testing.T, disputed bool) {
	b := New(memoryMaps(roomy))
	random := rand.New(rand.NewPCG(7, 7))
	all := make([]Service, 12)
	for i := range all {
		shared := i
		if disputed {
			shared = i / 2 // every other claims what its neighbour has
		}
		all[i] = Service{Namespace: "n", Name: fmt.Sprint("s", i), Proto: "tcp", Frontends: []Frontend{
			{Kind: ClusterIP, Addr: netip.AddrFrom4([4]byte{10, 96, 1, byte(i)}), Port: 80},
			{Kind: NodePort, Port: uint16(30000 + i)},
			{Kind: LoadBalancer, Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + shared)}), Port: 80},
		}}
	}
	whole, there := 0, map[int]bool{}
	for step := range 300 {
		switch i := random.IntN(len(all)); random.IntN(4) {
		case 0:
			there[i] = !there[i]
		case 1: // other addresses, also such as another had before
			all[i].Frontends[1].Port = uint16(30000 + 20*random.IntN(3) + i)
		default:
			changeOne(all, random)
		}
		now := State{}
		for i, s := range all {
			if there[i] {
				s.Frontends = slices.Clone(s.Frontends)
				now.Services = append(now.Services, s)
			}
		}
		before := b.laid
		apply(t, b, now)
		if b.laid != before {
			whole++
		}
		compareWithFresh(t, step, b, now)
	}
	if !disputed && whole > 1 { // the first time there is nothing to change
		t.Errorf("everything was planned anew %d times in 300 changes", whole)
	}
	if disputed && whole <= 1 {
		t.Error("Services that claim one address never were planned together")
	}
}

func apply(t *testing.T, b *Balancer, s State) Outcome {
	t.Helper()
	o, err := b.Apply(s, nodeA.Node)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// compareWithFresh holds what is remembered, and what the maps have, against a plan from nothing.
func compareWithFresh(t *testing.T, step int, b *Balancer, now State) {
	t.Helper()
	at := place{Node: nodeA.Node}
	services, _ := now.prepare(at)
	fresh := planAll(newTables(), b.maps.capacity(), at, slices.Collect(maps.Values(services)))
	want := fresh.want.show()
	if got := b.have.show(); !slices.Equal(got, want) {
		t.Fatalf("step %d: remembered as\n%v\nwant\n%v", step, got, want)
	}
	inMaps, err := b.maps.Read()
	if err != nil {
		t.Fatal(err)
	}
	if got := inMaps.show(); !slices.Equal(got, want) {
		t.Fatalf("step %d: the maps have\n%v\nwant\n%v", step, got, want)
	}
	var names []string
	for _, s := range now.Services {
		names = append(names, s.String())
	}
	slices.Sort(names)
	if got := slices.Sorted(maps.Values(b.Names())); !slices.Equal(got, names) {
		t.Fatalf("step %d: the Services are listed as %v, want %v", step, got, names)
	}
}

// TestBadServiceIsLeftOutUntilMended holds that a Service that cannot be laid out is said and left out, as if it
// were not there, and that it is taken once it can.
func TestBadServiceIsLeftOutUntilMended(t *testing.T) {
	b := New(memoryMaps(roomy))
	all := State{Services: good()}
	apply(t, b, State{Services: all.Services[1:]})
	others := b.have.show()
	all.Services[0].Affinity = 25 * time.Hour
	for range 2 {
		o := apply(t, b, all)
		if got := b.have.show(); !slices.Equal(got, others) {
			t.Errorf("the maps have %v, want the others %v", got, others)
		}
		if got := o.Skipped; len(got) != 1 || got[0].Name != all.Services[0].Name || got[0].Reason != NotValid {
			t.Errorf("left out: %v", got)
		}
	}
	all.Services[0].Affinity = time.Minute
	if o := apply(t, b, all); len(o.Skipped) != 0 {
		t.Errorf("left out: %v", o.Skipped)
	}
	compareWithFresh(t, 0, b, all)
}
