package lb

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/api"
)

var (
	roomy     = capacity{frontends: 4096, slots: 4096, backends: 4096, sources: 64}
	nodeAddrs = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.1")}
	routerA   = netip.MustParseAddr("10.0.0.1")
	nodeA     = place{Node{Name: "a", NodePorts: nodeAddrs, Addrs: []netip.Addr{routerA, nodeAddrs[1]}, Pods: netip.MustParsePrefix("10.0.0.0/24")}, "z1"}
)

// lay lays out what all of is carried, apart from what others have.
func lay(t *testing.T, have *Tables, services ...Service) *plan {
	t.Helper()
	p, leftOut := planOf(have, roomy, State{Services: services})
	for _, s := range leftOut {
		if s.Reason != AddressTaken {
			t.Fatalf("left out: %s", s)
		}
	}
	return p
}

// planAll plans the Services where all lists stay where they are.
func planAll(have *Tables, room capacity, at place, services []Service) *plan {
	return planWhole(have, room, at, services, false)
}

// planOf is what an Apply plans, and what it leaves out.
func planOf(have *Tables, room capacity, s State) (*plan, []api.LeftOut) {
	services, leftOut := s.prepare(nodeA)
	p := planAll(have, room, nodeA, slices.Collect(maps.Values(services)))
	return p, append(leftOut, p.leftOut...)
}

func web(backends ...string) Service {
	s := Service{
		Namespace: "default", Name: "web", Proto: "tcp",
		Frontends: []Frontend{{Kind: ClusterIP, Addr: netip.MustParseAddr("10.96.0.1"), Port: 80}},
	}
	for _, b := range backends {
		addr, node, _ := strings.Cut(b, "@")
		s.Backends = append(s.Backends, Backend{Addr: netip.MustParseAddrPort(addr), Node: node, Ready: true, Serving: true})
	}
	return s
}

// show prints tables as a person would check them.
func (t *Tables) show() []string {
	var lines []string
	for key, s := range t.frontends {
		d := t.describe(key, s, "")
		line := fmt.Sprintf("%s %s/%s %s", d.From, d.Addr, d.Protocol, d.Type)
		if d.Local {
			line += " local"
		}
		if s.Flags&bpf.PodLabServiceFlagLAB_HAS_REMOTE != 0 {
			line += " elsewhere"
		}
		if d.Affinity != 0 {
			line += " affinity=" + d.Affinity.String()
		}
		for _, r := range d.SourceRanges {
			line += " from " + r.String()
		}
		for _, b := range d.Backends {
			line += " " + b.Addr.String()
			if b.OnNode {
				line += "*"
			}
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

func TestFrontendsInTheMaps(t *testing.T) {
	both := []string{"10.0.0.2:8080@a", "10.0.1.2:8080@b"}
	with := func(change func(*Service)) Service {
		s := web(both...)
		change(&s)
		return s
	}
	for name, test := range map[string]struct {
		service Service
		want    []string
	}{
		"ClusterIP": {web(both...), []string{
			"inside 10.96.0.1:80/tcp ClusterIP 10.0.0.2:8080* 10.0.1.2:8080"}},
		"without backends": {web(), []string{
			"inside 10.96.0.1:80/tcp ClusterIP"}},
		"internal policy": {with(func(s *Service) { s.InternalLocal = true }), []string{
			"inside 10.96.0.1:80/tcp ClusterIP local elsewhere 10.0.0.2:8080*"}},
		"NodePort": {with(func(s *Service) { s.Frontends = []Frontend{{Kind: NodePort, Port: 30000}} }), []string{
			"inside 127.0.0.1:30000/tcp NodePort 10.0.0.2:8080* 10.0.1.2:8080",
			"inside 192.0.2.1:30000/tcp NodePort 10.0.0.2:8080* 10.0.1.2:8080",
			"outside 192.0.2.1:30000/tcp NodePort 10.0.0.2:8080* 10.0.1.2:8080"}},
		"external policy": {with(func(s *Service) { s.Frontends, s.ExternalLocal = []Frontend{{Kind: NodePort, Port: 30000}}, true }), []string{
			"inside 127.0.0.1:30000/tcp NodePort 10.0.0.2:8080* 10.0.1.2:8080",
			"inside 192.0.2.1:30000/tcp NodePort 10.0.0.2:8080* 10.0.1.2:8080",
			"outside 192.0.2.1:30000/tcp NodePort local elsewhere 10.0.0.2:8080*"}},
		"load balancer": {with(func(s *Service) {
			s.Frontends = []Frontend{{Kind: LoadBalancer, Addr: netip.MustParseAddr("203.0.113.1"), Port: 80}}
			s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("198.51.100.77/24"), netip.MustParsePrefix("192.0.2.0/25")}
		}), []string{
			"inside 203.0.113.1:80/tcp LoadBalancer from 192.0.2.0/25 from 198.51.100.0/24 10.0.0.2:8080* 10.0.1.2:8080",
			"outside 203.0.113.1:80/tcp LoadBalancer from 192.0.2.0/25 from 198.51.100.0/24 10.0.0.2:8080* 10.0.1.2:8080"}},
		"source ranges are the load balancer's alone": {with(func(s *Service) {
			s.Frontends = []Frontend{{Kind: ExternalIP, Addr: netip.MustParseAddr("203.0.113.2"), Port: 80}}
			s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/25")}
		}), []string{
			"inside 203.0.113.2:80/tcp ExternalIP 10.0.0.2:8080* 10.0.1.2:8080",
			"outside 203.0.113.2:80/tcp ExternalIP 10.0.0.2:8080* 10.0.1.2:8080"}},
		"affinity, rounded up": {with(func(s *Service) { s.Affinity = 1500 * time.Millisecond }), []string{
			"inside 10.96.0.1:80/tcp ClusterIP affinity=2s 10.0.0.2:8080* 10.0.1.2:8080"}},
		"headless": {with(func(s *Service) { s.Frontends = nil }), nil},
		"host port": {HostPort{Proto: "udp", Port: 53, Backend: netip.MustParseAddrPort("10.0.0.5:5353")}.service(nodeA), []string{
			"inside 127.0.0.1:53/udp HostPort 10.0.0.5:5353*",
			"inside 192.0.2.1:53/udp HostPort 10.0.0.5:5353*",
			"outside 192.0.2.1:53/udp HostPort 10.0.0.5:5353*"}},
		"host port on one address": {HostPort{Proto: "tcp", HostIP: nodeAddrs[1], Port: 80, Backend: netip.MustParseAddrPort("10.0.0.5:80")}.service(nodeA), []string{
			"inside 192.0.2.1:80/tcp HostPort 10.0.0.5:80*",
			"outside 192.0.2.1:80/tcp HostPort 10.0.0.5:80*"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lay(t, newTables(), test.service).want.show(); !slices.Equal(got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

// Whether a backend is here is a question of its address; its node's name is for policies.
func TestWhichBackendsAreHere(t *testing.T) {
	s := web("10.0.0.2:80", "10.0.0.3:80@b", "10.0.0.1:80", "192.0.2.1:80", "192.0.2.2:80@a", "10.0.1.2:80@a", "203.0.113.7:80")
	s.InternalLocal = true
	s.Frontends = append(s.Frontends, Frontend{Kind: ExternalIP, Addr: netip.MustParseAddr("203.0.113.1"), Port: 80})
	here := " 10.0.0.1:80* 10.0.0.2:80* 10.0.0.3:80* 10.0.1.2:80 192.0.2.1:80* 192.0.2.2:80 203.0.113.7:80"
	want := []string{
		"inside 10.96.0.1:80/tcp ClusterIP local elsewhere 10.0.1.2:80 192.0.2.2:80",
		"inside 203.0.113.1:80/tcp ExternalIP" + here,
		"outside 203.0.113.1:80/tcp ExternalIP" + here,
	}
	if got := lay(t, newTables(), s).want.show(); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestMapsThatAreTooSmall(t *testing.T) {
	s := web("10.0.0.2:80@a", "10.0.0.3:80@a")
	s.Frontends = append(s.Frontends, Frontend{Kind: LoadBalancer, Addr: netip.MustParseAddr("203.0.113.1"), Port: 80})
	s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/25")}
	small := web("10.0.0.9:80@a")
	small.Name, small.Frontends = "zzz", []Frontend{{Kind: ClusterIP, Addr: netip.MustParseAddr("10.96.0.9"), Port: 80}}
	fits := capacity{frontends: 4, slots: 3, backends: 3, sources: 1}
	both := State{Services: []Service{s, small}}
	if p, leftOut := planOf(newTables(), fits, both); len(leftOut) > 0 || len(p.want.frontends) != 4 {
		t.Errorf("what fits: %v, left out %v", p.want.show(), leftOut)
	}
	for name, change := range map[string]func(*capacity){
		"frontends": func(c *capacity) { c.frontends -= 2 },
		"slots":     func(c *capacity) { c.slots -= 2 },
		"backends":  func(c *capacity) { c.backends -= 2 },
		"sources":   func(c *capacity) { c.sources-- },
	} {
		t.Run(name, func(t *testing.T) {
			room := fits
			change(&room)
			p, leftOut := planOf(newTables(), room, both)
			if len(leftOut) != 1 || leftOut[0].Name != "web" || leftOut[0].Reason != NoRoom || !p.lacksRoom {
				t.Errorf("left out: %v", leftOut)
			}
			if got := p.want.show(); len(got) != 1 || got[0] != "inside 10.96.0.9:80/tcp ClusterIP 10.0.0.9:80*" {
				t.Errorf("what fits beside it: %q", got)
			}
			checkTables(t, p, room)
		})
	}
}

// Who is there stays, whoever comes or grows, and by name goes before.
func TestNewcomersPushNobodyOut(t *testing.T) {
	room := capacity{frontends: 16, slots: 16, backends: 6, sources: 4}
	a, b, z := web("10.0.0.1:80", "10.0.0.2:80"), web("10.0.0.3:80", "10.0.0.4:80"), web("10.0.0.5:80", "10.0.0.6:80", "10.0.0.7:80")
	a.Name, a.Frontends = "a", []Frontend{{Kind: ClusterIP, Addr: netip.MustParseAddr("10.96.0.2"), Port: 80}}
	b.Name, b.Frontends = "b", []Frontend{{Kind: ClusterIP, Addr: netip.MustParseAddr("10.96.0.3"), Port: 80}}
	z.Name = "z"
	before, _ := planOf(newTables(), room, State{Services: []Service{z, b}})
	p, leftOut := planOf(before.want, room, State{Services: []Service{a, b, z}})
	if len(leftOut) != 1 || leftOut[0].Name != "a" {
		t.Errorf("left out %v, want the newcomer", leftOut)
	}
	b.Backends = append(b.Backends, web("10.0.0.8:80", "10.0.0.9:80").Backends...)
	p, leftOut = planOf(p.want, room, State{Services: []Service{b, z}})
	if len(leftOut) != 1 || leftOut[0].Name != "b" {
		t.Errorf("left out %v, want who has grown", leftOut)
	}
	checkTables(t, p, room)
}

// What stays keeps its place, and what comes takes no place that was in use: packets on their way may
// still look there.
func TestPlacesAreKept(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	have := newTables()
	for round := range 300 {
		var services []Service
		for i := range 20 {
			if random.IntN(4) == 0 {
				continue
			}
			s := web()
			s.Name = fmt.Sprint("svc", i)
			s.Frontends[0].Addr = netip.AddrFrom4([4]byte{10, 96, 0, byte(i)})
			if i%2 == 0 {
				s.Frontends = append(s.Frontends, Frontend{Kind: NodePort, Port: uint16(30000 + i)})
				s.ExternalLocal = i%4 == 0
			}
			for b := range random.IntN(5) {
				node := []string{"a", "b"}[b%2]
				s.Backends = append(s.Backends, Backend{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), byte(random.IntN(6))}), 80), Node: node, Ready: true})
			}
			services = append(services, s)
		}
		random.Shuffle(len(services), func(i, j int) { services[i], services[j] = services[j], services[i] })
		p := lay(t, have, services...)
		checkPlaces(t, round, p)
		for key, s := range p.want.frontends {
			if old, ok := p.have.frontends[key]; ok && old.Id != s.Id {
				t.Fatalf("round %d: frontend %v changed its id from %d to %d", round, key, old.Id, s.Id)
			}
		}
		again := lay(t, p.want, services...)
		if !sameTables(again.want, p.want) {
			t.Fatalf("round %d: the same state makes other tables", round)
		}
		have = p.want
	}
}

func checkPlaces(t *testing.T, round int, p *plan) {
	t.Helper()
	for id, b := range p.want.backends {
		if old, ok := p.have.backends[id]; ok && nameOf(old) != nameOf(b) {
			t.Fatalf("round %d: backend %d was another's", round, id)
		}
	}
	for key, s := range p.want.frontends {
		for _, id := range p.want.lists[s.First][:s.Count] {
			if p.want.backends[id].Service != s.Id {
				t.Fatalf("round %d: frontend %v has a backend of another service", round, key)
			}
		}
	}
	slots := map[uint32]uint32{}
	for first, list := range p.have.lists { // of those that frontends point at
		for i, id := range list {
			slots[first+uint32(i)] = id
		}
	}
	for first, list := range p.want.lists {
		for i, id := range list {
			if old, ok := slots[first+uint32(i)]; ok && old != id {
				t.Fatalf("round %d: slot %d is written while it is in use", round, first+uint32(i))
			}
		}
	}
}

func sameTables(a, b *Tables) bool {
	return maps.Equal(a.frontends, b.frontends) && maps.Equal(a.backends, b.backends) && maps.Equal(a.sources, b.sources) &&
		maps.EqualFunc(a.lists, b.lists, slices.Equal)
}
