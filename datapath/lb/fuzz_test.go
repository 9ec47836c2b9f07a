package lb

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/api"
)

// FuzzPlanner gives the planner objects that nobody in his senses would make, beside good ones. Whatever it is
// given, good Services are there in full, all tables are sound and within their room, and what is left out is said.
// `go test -fuzz FuzzPlanner ./datapath/lb` goes on with other seeds.
func FuzzPlanner(f *testing.F) {
	for seed := range uint64(60) {
		f.Add(seed, uint8(seed*37), uint8(10+seed*13))
	}
	f.Fuzz(func(t *testing.T, seed uint64, steps, size uint8) {
		h := hostile{rand.New(rand.NewPCG(seed, 1))}
		room := capacity{frontends: uint32(size) * 4, slots: uint32(size) * 2, backends: uint32(size), sources: uint32(size) / 8}
		if seed%3 == 0 {
			room = roomy
		}
		have := newTables()
		var laid *laidOut
		for range 1 + steps%5 {
			state := h.state(int(size))
			services, leftOut := state.prepare(nodeA)
			p := planAll(have, room, nodeA, slices.Collect(maps.Values(services)))
			checkTables(t, p, room)
			checkSaid(t, p, services, append(leftOut, p.leftOut...))
			checkTables(t, planWhole(have, room, nodeA, slices.Collect(maps.Values(services)), true), room)
			if room == roomy {
				checkGood(t, p, append(leftOut, p.leftOut...))
			}
			h.r.Shuffle(len(state.Services), func(i, j int) {
				state.Services[i], state.Services[j] = state.Services[j], state.Services[i]
			})
			h.r.Shuffle(len(state.HostPorts), func(i, j int) {
				state.HostPorts[i], state.HostPorts[j] = state.HostPorts[j], state.HostPorts[i]
			})
			services, _ = state.prepare(nodeA)
			if again := planAll(have, room, nodeA, slices.Collect(maps.Values(services))); !sameTables(again.want, p.want) {
				t.Fatal("in another order the same state makes other tables")
			}
			have = p.want
			laid = &laidOut{services: services, at: nodeA, owners: p.owners, lastID: p.nextID, disputed: p.disputed, crowded: p.lacksRoom, free: p.want.free(room)}
			have = h.changeSome(t, laid, have, room)
		}
	})
}

// checkTables holds that tables are of one piece: every frontend's list is there, of its own Service's backends,
// and nothing that was in use is written over, nor is there more than fits, while old and new are both there.
func checkTables(t *testing.T, p *plan, room capacity) {
	t.Helper()
	checkPlaces(t, 0, p)
	for key, s := range p.want.frontends {
		list, ok := p.want.lists[s.First]
		if s.Count > 0 && (!ok || len(list) < int(s.Count)) || s.First+s.Count > room.slots {
			t.Fatalf("frontend %v has %d backends at %d, where there are %d", key, s.Count, s.First, len(list))
		}
	}
	for id, b := range p.want.backends {
		if id >= room.backends || b.Service == 0 {
			t.Fatalf("backend %d of %d is %+v", id, room.backends, b)
		}
	}
	both := func(n int, more int, room uint32, what string) {
		if n+more > int(room) && n+more > 0 {
			t.Fatalf("%d %s where there is room for %d", n+more, what, room)
		}
	}
	both(len(p.have.frontends), len(without(p.want.frontends, p.have.frontends)), room.frontends, "frontends")
	both(len(p.have.sources), len(without(p.want.sources, p.have.sources)), room.sources, "source ranges")
	slots := map[uint32]uint32{}
	for first, list := range p.want.lists {
		for i := range list {
			at := first + uint32(i)
			if other, taken := slots[at]; taken {
				t.Fatalf("slot %d is of the lists at %d and %d", at, first, other)
			}
			slots[at] = first
		}
	}
	free := map[uint32]bool{}
	for _, r := range p.free.slots.free {
		for at := r.first; at < r.first+r.count; at++ {
			if _, used := slots[at]; used || free[at] || at >= room.slots {
				t.Fatalf("slot %d is free, and is not", at)
			}
			free[at] = true
		}
	}
}

func without[K comparable, V any](all, other map[K]V) map[K]V {
	rest := maps.Clone(all)
	for k := range other {
		delete(rest, k)
	}
	return rest
}

// checkSaid holds that a Service either has all of the addresses that it wants, or something is said of it.
func checkSaid(t *testing.T, p *plan, services map[serviceID]Service, leftOut []api.LeftOut) {
	t.Helper()
	said := map[string]bool{}
	for _, s := range leftOut {
		said[string(s.Kind)+s.Namespace+"/"+s.Name] = true
		if s.Message == "" || s.Reason == "" {
			t.Fatalf("nothing is said of %+v", s)
		}
	}
	for _, s := range services {
		if s.hostPort {
			continue // of two for one pod's port nothing is lost
		}
		for _, f := range s.onNode(nodeA.NodePorts) {
			key := frontendKey(f.Addr, f.Port, protocols[s.Proto], bpf.PodLabScopeLAB_INSIDE)
			v, ok := p.want.frontends[key]
			if (!ok || p.names[v.Id] != s.String()) && !said[string(api.LeftOutService)+s.Namespace+"/"+s.Name] {
				t.Fatalf("%s is not at %s, and nothing is said of it: %v", s, f.text(), leftOut)
			}
		}
	}
}

// checkGood holds that the good Services are as if there were nothing else.
func checkGood(t *testing.T, p *plan, leftOut []api.LeftOut) {
	t.Helper()
	alone, _ := planOf(newTables(), roomy, State{Services: good()})
	have := map[string]bool{}
	for _, line := range p.want.show() {
		have[line] = true
	}
	for _, line := range alone.want.show() {
		if !have[line] {
			t.Fatalf("no %q beside %d others; left out: %v", line, len(p.want.frontends), leftOut)
		}
	}
}

// good are Services that nobody else's claims come before.
func good() []Service {
	var all []Service
	for i := range byte(4) {
		s := web(fmt.Sprintf("10.0.0.%d:80@a", 100+i), fmt.Sprintf("10.0.1.%d:80@b", 100+i))
		s.Namespace, s.Name = "good", fmt.Sprint("good", i)
		s.Frontends = []Frontend{{Kind: ClusterIP, Addr: netip.AddrFrom4([4]byte{10, 97, 0, i}), Port: 80}}
		all = append(all, s)
	}
	return all
}

// hostile makes states at random.
type hostile struct{ r *rand.Rand }

func pick[T any](h hostile, from ...T) T { return from[h.r.IntN(len(from))] }

func (h hostile) addr() netip.Addr {
	return pick(h, netip.Addr{}, netip.AddrFrom4([4]byte{10, 96, 0, byte(h.r.IntN(8))}), nodeAddrs[0], nodeAddrs[1], routerA,
		netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("224.0.0.9"), netip.MustParseAddr("127.0.0.9"),
		netip.MustParseAddr("fd00::1"), netip.MustParseAddr("::ffff:10.96.0.1"), netip.MustParseAddr("::"), netip.MustParseAddr("fe80::1%eth0"),
		netip.AddrFrom4([4]byte{10, 0, byte(h.r.IntN(2)), byte(h.r.IntN(30))}), netip.AddrFrom4([4]byte{203, 0, 113, byte(h.r.IntN(4))}))
}

func (h hostile) port() uint16 { return pick[uint16](h, 0, 1, 80, 80, 30000, 30001, 65535) }

func (h hostile) proto() string { return pick(h, "tcp", "tcp", "udp", "sctp", "", "TCP") }

func (h hostile) name() string {
	return pick(h, "", "a", "b", "a:b", "a/b", "good", "10.0.0.2:80", "c")
}

func (h hostile) service(size int) Service {
	s := Service{
		Namespace: pick(h, "", "a", "hostport", "b"), Name: h.name(), Port: h.name(), Proto: h.proto(),
		Affinity:      pick[time.Duration](h, 0, 0, 0, -1, time.Millisecond, 24*time.Hour, 25*time.Hour, 1<<62),
		InternalLocal: h.r.IntN(2) == 0, ExternalLocal: h.r.IntN(2) == 0,
	}
	for range h.r.IntN(5) {
		s.Frontends = append(s.Frontends, Frontend{Kind: pick(h, ClusterIP, NodePort, NodePort, ExternalIP, LoadBalancer, HostPortFrontend, "x", ""), Addr: h.addr(), Port: h.port()})
		if h.r.IntN(3) == 0 {
			s.Frontends = append(s.Frontends, Frontend{Kind: NodePort, Port: h.port()})
		}
	}
	backends := h.r.IntN(6)
	if h.r.IntN(8) == 0 {
		backends = h.r.IntN(2*size + 2) // more than there is room for
	}
	for range backends {
		s.Backends = append(s.Backends, h.backend())
	}
	for range h.r.IntN(4) * h.r.IntN(2) {
		s.SourceRanges = append(s.SourceRanges, pick(h, netip.Prefix{}, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("fd00::/8"),
			netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(h.r.IntN(64)), 7}), h.r.IntN(33))))
	}
	return s
}

func (h hostile) backend() Backend {
	b := Backend{Addr: netip.AddrPortFrom(h.addr(), h.port()), Node: pick(h, "", "a", "b"), Ready: h.r.IntN(3) > 0, Serving: h.r.IntN(2) == 0, Terminating: h.r.IntN(2) == 0}
	if h.r.IntN(2) == 0 {
		b.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(h.r.IntN(2)), byte(h.r.IntN(250))}), uint16(1+h.r.IntN(65535)))
	}
	for range h.r.IntN(2) {
		b.ForZones, b.ForNodes = append(b.ForZones, pick(h, "z1", "z2", "")), append(b.ForNodes, pick(h, "a", "b", ""))
	}
	return b
}

func (h hostile) state(size int) State {
	s := State{Zone: pick(h, "", "z1"), Services: good()}
	for range h.r.IntN(12) {
		s.Services = append(s.Services, h.service(size))
	}
	if len(s.Services) > 4 && h.r.IntN(2) == 0 {
		s.Services = append(s.Services, s.Services[4:]...) // all of them twice
	}
	for range h.r.IntN(10) {
		s.HostPorts = append(s.HostPorts, HostPort{Proto: h.proto(), HostIP: h.addr(), Port: h.port(), Backend: netip.AddrPortFrom(h.addr(), h.port()), Name: h.name()})
	}
	return s
}

// changeSome changes a few Services alone, as an Apply does, and holds the outcome against a plan of all.
func (h hostile) changeSome(t *testing.T, l *laidOut, have *Tables, room capacity) *Tables {
	t.Helper()
	services := maps.Clone(l.services)
	for id := range services {
		if id.namespace != "good" && h.r.IntN(3) == 0 {
			delete(services, id)
		}
	}
	more, _ := State{Services: []Service{h.service(4), h.service(4)}}.prepare(nodeA)
	maps.Copy(services, more)
	c, ok := l.changeTo(services, nodeA)
	if !ok || len(c.before)+len(c.after) == 0 {
		return have
	}
	whole := planAll(have, room, nodeA, slices.Collect(maps.Values(services)))
	part := l.planPart(have, room, c)
	if part == nil {
		return whole.want
	}
	if part.lacksRoom || len(part.leftOut) > 0 {
		t.Fatalf("a change of some Services left out %v", part.leftOut)
	}
	after := &Tables{frontends: maps.Clone(have.frontends), lists: maps.Clone(have.lists), backends: maps.Clone(have.backends), sources: maps.Clone(have.sources)}
	after.replace(part.have, part.want)
	if got, want := after.show(), whole.want.show(); !whole.lacksRoom && !slices.Equal(got, want) {
		t.Fatalf("changed alone\n%v\nwith all others\n%v", got, want)
	}
	return after
}
