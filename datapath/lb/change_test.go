package lb

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"wirelab.dev/wirelab/bpf"
)

// changeTo makes the state that of now by what is different, and by something that is not.
func changeTo(t *testing.T, b *Balancer, now State) {
	t.Helper()
	services := map[Name][]Service{{"n", "nobody"}: nil}
	for id, old := range b.laid.services {
		if !slices.ContainsFunc(now.Services, func(s Service) bool { return s.same(old) && s.id() == id }) {
			services[id.of()] = nil
		}
	}
	for i, s := range now.Services {
		if old, ok := b.laid.services[s.id()]; i == 0 || !ok || !s.same(old) {
			services[s.id().of()] = []Service{s}
		}
	}
	if _, err := b.Change(services, nodeA.Node); err != nil {
		t.Fatal(err)
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
		if got := o.LeftOut; len(got) != 1 || got[0].Name != all.Services[0].Name || got[0].Reason != NotValid {
			t.Errorf("left out: %v", got)
		}
	}
	all.Services[0].Affinity = time.Minute
	if o := apply(t, b, all); len(o.LeftOut) != 0 {
		t.Errorf("left out: %v", o.LeftOut)
	}
	compareWithFresh(t, 0, b, all)
}

// TestChangesSayWhatIsLeftOut holds that after a change the same is left out as if all had been applied.
func TestChangesSayWhatIsLeftOut(t *testing.T) {
	b := New(memoryMaps(roomy))
	bad := func(name string) Service {
		s := web("10.0.0.2:80")
		s.Name, s.Proto = name, "sctp"
		return s
	}
	apply(t, b, State{Services: append(good(), bad("a"), bad("b")), HostPorts: []HostPort{{Proto: "tcp", Port: 0, Name: "pod"}}})
	a := web("10.0.0.2:80")
	a.Name = "a"
	o, err := b.Change(map[Name][]Service{{"default", "a"}: {a}, {"default", "c"}: {bad("c")}}, nodeA.Node)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range o.LeftOut {
		got = append(got, s.Kind+" "+s.Name)
	}
	slices.Sort(got)
	if want := []string{"Pod pod", "Service b", "Service c"}; !slices.Equal(got, want) {
		t.Errorf("left out %v, want %v", got, want)
	}
	now := State{Services: append(good(), a)}
	compareWithFresh(t, 1, b, now)
}

// TestSomeChangesNeedTheWholeState holds that a change is refused where it is not known what it changes.
func TestSomeChangesNeedTheWholeState(t *testing.T) {
	b := New(memoryMaps(roomy))
	change := map[Name][]Service{{"default", "web"}: {web("10.0.0.2:80")}}
	refused := func(when string, on Node) {
		t.Helper()
		if o, err := b.Change(change, on); !errors.Is(err, ErrWhole) || o.Changed != 0 {
			t.Errorf("%s: %v, %d changes", when, err, o.Changed)
		}
	}
	refused("before all", nodeA.Node)
	apply(t, b, State{Services: good()})
	if _, err := b.Change(change, nodeA.Node); err != nil {
		t.Fatal(err)
	}
	other := nodeA.Node
	other.NodePorts = other.NodePorts[:1]
	refused("on another node", other)
	b.Reload()
	refused("after Reload", nodeA.Node)
}

// TestFailedChangeIsForgotten holds that after a change that the maps did not take the whole state is asked for, and
// that nothing of the change is left then, whether it was to be made alone or with all others.
func TestFailedChangeIsForgotten(t *testing.T) {
	alone := web("10.0.0.2:80")
	disputed := web("10.0.0.2:80")
	disputed.Frontends = append(disputed.Frontends, good()[0].Frontends...)
	for name, s := range map[string]Service{"alone": alone, "disputed": disputed} {
		t.Run(name, func(t *testing.T) {
			b := New(memoryMaps(roomy))
			before := State{Services: good()}
			apply(t, b, before)
			works := b.maps.Services
			b.maps.Services = brokenMap[bpf.ServiceKey, bpf.Service]{works}
			change := map[Name][]Service{s.id().of(): {s}}
			if _, err := b.Change(change, nodeA.Node); !errors.Is(err, errBroken) {
				t.Fatalf("got %v", err)
			}
			b.maps.Services = works
			if _, err := b.Change(change, nodeA.Node); !errors.Is(err, ErrWhole) {
				t.Errorf("after a failure: %v", err)
			}
			apply(t, b, before)
			compareWithFresh(t, 0, b, before)
		})
	}
}

var errBroken = errors.New("broken")

// brokenMap takes no entry.
type brokenMap[K, V comparable] struct{ Map[K, V] }

func (brokenMap[K, V]) Put([]K, []V) error { return errBroken }

// many are n Services with two backends each.
func many(n int) []Service {
	all := make([]Service, n)
	for i := range all {
		all[i] = web()
		all[i].Name = fmt.Sprintf("s%06d", i)
		all[i].Frontends[0].Addr = netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})
		for b := range 2 {
			addr := netip.AddrFrom4([4]byte{10, 200, byte(i >> 7), byte(2*i + b)})
			all[i].Backends = append(all[i].Backends, Backend{Addr: netip.AddrPortFrom(addr, 8080), Ready: true})
		}
	}
	return all
}

// beside is a balancer of n Services, and a function that changes one of them.
func beside(t testing.TB, n int) (b *Balancer, changeOne func(int)) {
	b = New(memoryMaps(capacity{frontends: 1 << 16, slots: 1 << 17, backends: 1 << 17, sources: 64}))
	all := many(n)
	if _, err := b.Apply(State{Services: all}, nodeA.Node); err != nil {
		t.Fatal(err)
	}
	return b, func(i int) {
		s := all[n/2]
		s.Backends = s.Backends[:1+i%2]
		if o, err := b.Change(map[Name][]Service{s.id().of(): {s}}, nodeA.Node); err != nil || i > 1 && o.Changed == 0 {
			t.Fatal(o, err)
		}
	}
}

// What a change of one Service takes must not depend on how many others there are.
func TestChangeCostIsFlat(t *testing.T) {
	cost := func(n int) time.Duration {
		_, changeOne := beside(t, n)
		best := time.Hour
		for i := range 500 { // what disturbs one makes it longer, so the shortest counts
			start := time.Now()
			changeOne(i)
			best = min(best, time.Since(start))
		}
		return best
	}
	few, lots := cost(20), cost(20000)
	t.Logf("%s beside 20 Services, %s beside 20,000", few, lots)
	if lots > 5*few+20*time.Microsecond { // a look at each of them would take thousands of times as long
		t.Errorf("%s beside 20 Services, %s beside 20,000", few, lots)
	}
}

func BenchmarkChange(b *testing.B) {
	for _, n := range []int{100, 10000} {
		b.Run(fmt.Sprintf("one of %d", n), func(b *testing.B) {
			_, changeOne := beside(b, n)
			for i := 0; b.Loop(); i++ {
				changeOne(i)
			}
		})
	}
}
