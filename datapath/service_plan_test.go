package datapath

import (
	"fmt"
	stdmaps "maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/bpf"
)

var (
	roomy     = capacity{frontends: 4096, slots: 4096, backends: 4096, sources: 64}
	nodeAddrs = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.1")}
)

func lay(t *testing.T, have *tables, services ...Service) *plan {
	t.Helper()
	p := newPlan(have, roomy, "a", "z1", nodeAddrs)
	if err := p.add(services); err != nil {
		t.Fatal(err)
	}
	return p
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
func (t *tables) show() []string {
	var lines []string
	for key, s := range t.frontends {
		d := t.describe(key, s, "")
		line := fmt.Sprintf("%s %s/%s %s", d.From, d.Frontend, d.Proto, d.Kind)
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
		"host port": {HostPort{Proto: "udp", Port: 53, Backend: netip.MustParseAddrPort("10.0.0.5:5353")}.service("a", nodeAddrs), []string{
			"inside 127.0.0.1:53/udp HostPort 10.0.0.5:5353*",
			"inside 192.0.2.1:53/udp HostPort 10.0.0.5:5353*",
			"outside 192.0.2.1:53/udp HostPort 10.0.0.5:5353*"}},
		"host port on one address": {HostPort{Proto: "tcp", HostIP: nodeAddrs[1], Port: 80, Backend: netip.MustParseAddrPort("10.0.0.5:80")}.service("a", nodeAddrs), []string{
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

func TestClaims(t *testing.T) {
	nodePort := web("10.0.0.2:80@a")
	nodePort.Name, nodePort.Frontends = "aaa", []Frontend{{Kind: NodePort, Port: 30000}}
	external := web("10.0.0.3:80@a")
	external.Frontends = []Frontend{{Kind: ExternalIP, Addr: nodeAddrs[1], Port: 30000}}
	p := lay(t, newTables(), nodePort, external)
	want := []string{
		"inside 127.0.0.1:30000/tcp NodePort 10.0.0.2:80*",
		"inside 192.0.2.1:30000/tcp ExternalIP 10.0.0.3:80*",
		"outside 192.0.2.1:30000/tcp ExternalIP 10.0.0.3:80*",
	}
	if got := p.want.show(); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(p.conflicts) != 1 || !strings.Contains(p.conflicts[0], "default/aaa/tcp") {
		t.Errorf("conflicts: %q", p.conflicts)
	}
}

func TestServicesAreChecked(t *testing.T) {
	for name, change := range map[string]func(*Service){
		"protocol":        func(s *Service) { s.Proto = "sctp" },
		"port":            func(s *Service) { s.Frontends[0].Port = 0 },
		"address":         func(s *Service) { s.Frontends[0].Addr = netip.MustParseAddr("fd00::1") },
		"nodePort's addr": func(s *Service) { s.Frontends[0].Kind = NodePort },
		"backend":         func(s *Service) { s.Backends[0].Addr = netip.MustParseAddrPort("[fd00::1]:80") },
		"backend's port":  func(s *Service) { s.Backends[0].Addr = netip.MustParseAddrPort("10.0.0.1:0") },
		"source range":    func(s *Service) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("fd00::/8")} },
		"affinity":        func(s *Service) { s.Affinity = 25 * time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			s := web("10.0.0.2:80@a")
			change(&s)
			if err := newPlan(newTables(), roomy, "a", "", nodeAddrs).add([]Service{s}); err == nil || !strings.Contains(err.Error(), "default/web") {
				t.Errorf("got %v, want an error that names the service", err)
			}
		})
	}
	if err := newPlan(newTables(), roomy, "a", "", nodeAddrs).add([]Service{web(), web()}); err == nil {
		t.Error("the same service twice was taken")
	}
}

func TestMapsThatAreTooSmall(t *testing.T) {
	s := web("10.0.0.2:80@a", "10.0.0.3:80@a")
	s.Frontends = append(s.Frontends, Frontend{Kind: LoadBalancer, Addr: netip.MustParseAddr("203.0.113.1"), Port: 80})
	s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/25")}
	fits := capacity{frontends: 3, slots: 2, backends: 2, sources: 1}
	if err := newPlan(newTables(), fits, "a", "", nodeAddrs).add([]Service{s}); err != nil {
		t.Errorf("what fits: %v", err)
	}
	for name, change := range map[string]func(*capacity){
		"frontends": func(c *capacity) { c.frontends-- },
		"slots":     func(c *capacity) { c.slots-- },
		"backends":  func(c *capacity) { c.backends-- },
		"sources":   func(c *capacity) { c.sources-- },
	} {
		room := fits
		change(&room)
		if err := newPlan(newTables(), room, "a", "", nodeAddrs).add([]Service{s}); err == nil {
			t.Errorf("%s: what does not fit was taken", name)
		}
	}
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
		if old, ok := p.have.frontends[key]; ok && old.Id != s.Id {
			t.Fatalf("round %d: frontend %v changed its id from %d to %d", round, key, old.Id, s.Id)
		}
		for _, id := range p.want.lists[s.First][:s.Count] {
			if p.want.backends[id].Service != s.Id {
				t.Fatalf("round %d: frontend %v has a backend of another service", round, key)
			}
		}
	}
	slots := map[uint32]uint32{}
	for first, list := range p.have.lists {
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

func sameTables(a, b *tables) bool {
	return stdmaps.Equal(a.frontends, b.frontends) && stdmaps.Equal(a.backends, b.backends) && stdmaps.Equal(a.sources, b.sources) &&
		stdmaps.EqualFunc(a.lists, b.lists, slices.Equal)
}
