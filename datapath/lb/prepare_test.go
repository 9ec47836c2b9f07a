package lb

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

// What cannot be carried is left out alone, and said.
func TestServicesAreChecked(t *testing.T) {
	beside := web("10.0.0.9:80")
	beside.Name, beside.Frontends = "beside", []Frontend{{Kind: ClusterIP, Addr: netip.MustParseAddr("10.96.0.2"), Port: 80}}
	const besideIt, asItIs = "inside 10.96.0.2:80/tcp ClusterIP 10.0.0.9:80*", "inside 10.96.0.1:80/tcp ClusterIP 10.0.0.2:80*"
	extra := func(f Frontend) func(*Service) { return func(s *Service) { s.Frontends = append(s.Frontends, f) } }
	backend := func(addr string) func(*Service) {
		return func(s *Service) {
			s.Backends = append(s.Backends, Backend{Addr: netip.MustParseAddrPort(addr), Ready: true})
		}
	}
	external := func(addr string) func(*Service) {
		return extra(Frontend{Kind: ExternalIP, Addr: netip.MustParseAddr(addr), Port: 80})
	}
	for name, test := range map[string]struct {
		change func(*Service)
		reason string
		want   string // of the Service itself
	}{
		"protocol":               {func(s *Service) { s.Proto = "sctp" }, NotCarried, ""},
		"affinity":               {func(s *Service) { s.Affinity = 25 * time.Hour }, NotValid, ""},
		"negative affinity":      {func(s *Service) { s.Affinity = -1 }, NotValid, ""},
		"port":                   {extra(Frontend{Kind: ClusterIP, Addr: netip.MustParseAddr("10.96.0.3")}), NotValid, asItIs},
		"IPv6":                   {external("fd00::1"), NotCarried, asItIs},
		"mapped":                 {external("::ffff:10.0.0.1"), NotCarried, asItIs},
		"loopback":               {external("127.0.0.1"), NotValid, asItIs},
		"any address":            {external("0.0.0.0"), NotValid, asItIs},
		"multicast":              {external("224.0.0.1"), NotValid, asItIs},
		"broadcast":              {external("255.255.255.255"), NotValid, asItIs},
		"no address":             {extra(Frontend{Kind: ExternalIP, Port: 80}), NotCarried, asItIs},
		"kind":                   {extra(Frontend{Kind: "Other", Addr: netip.MustParseAddr("10.96.0.3"), Port: 80}), NotValid, asItIs},
		"nodePort's address":     {extra(Frontend{Kind: NodePort, Addr: nodeAddrs[1], Port: 30000}), NotValid, asItIs},
		"nodePort's port":        {extra(Frontend{Kind: NodePort}), NotValid, asItIs},
		"backend":                {backend("[fd00::1]:80"), NotCarried, asItIs},
		"backend's port":         {backend("10.0.0.3:0"), NotValid, asItIs},
		"backend's loopback":     {backend("127.0.0.1:6443"), NotValid, asItIs},
		"backend's nothing":      {func(s *Service) { s.Backends = append(s.Backends, Backend{Ready: true}) }, NotCarried, asItIs},
		"source range":           {func(s *Service) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("fd00::/8")} }, NotCarried, asItIs},
		"source range's nothing": {func(s *Service) { s.SourceRanges = []netip.Prefix{{}} }, NotCarried, asItIs},
	} {
		t.Run(name, func(t *testing.T) {
			s := web("10.0.0.2:80@a")
			test.change(&s)
			p, leftOut := planOf(newTables(), roomy, State{Services: []Service{s, beside}})
			want := []string{besideIt}
			if test.want != "" {
				want = []string{test.want, besideIt}
			}
			if got := p.want.show(); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			if len(leftOut) != 1 || leftOut[0].Reason != test.reason || leftOut[0].Kind != api.LeftOutService || leftOut[0].Namespace != "default" || leftOut[0].Name != "web" {
				t.Errorf("left out: %v, want web for %s", leftOut, test.reason)
			}
		})
	}
}

// A load balancer whose source ranges are all of a kind that is not carried is not open to everybody.
func TestUnknownSourceRangesClose(t *testing.T) {
	s := web("10.0.0.2:80@a")
	s.Frontends = append(s.Frontends, Frontend{Kind: LoadBalancer, Addr: netip.MustParseAddr("203.0.113.1"), Port: 80})
	s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("fd00::/8")}
	p, leftOut := planOf(newTables(), roomy, State{Services: []Service{s}})
	if got := p.want.show(); len(got) != 1 || len(leftOut) != 2 {
		t.Errorf("got %q, left out %v", got, leftOut)
	}
	s.SourceRanges = append(s.SourceRanges, netip.MustParsePrefix("192.0.2.0/25"))
	p, _ = planOf(newTables(), roomy, State{Services: []Service{s}})
	if got := p.want.show(); len(got) != 3 || !strings.Contains(got[2], "from 192.0.2.0/25 10") {
		t.Errorf("got %q", got)
	}
}

// Of what has one name twice, the same one is taken whatever the order.
func TestNamesThatAreThereTwice(t *testing.T) {
	a, b := web("10.0.0.2:80@a"), web("10.0.0.3:80@a")
	one, leftOut := planOf(newTables(), roomy, State{Services: []Service{a, b}})
	other, _ := planOf(newTables(), roomy, State{Services: []Service{b, a}})
	if len(leftOut) != 1 || leftOut[0].Reason != Duplicate || len(one.want.frontends) != 1 || !sameTables(one.want, other.want) {
		t.Errorf("%v and %v, left out %v", one.want.show(), other.want.show(), leftOut)
	}
	// These are named alike only for people.
	a.Name, a.Port, b.Name, b.Port = "web:x", "", "web", "x"
	b.Frontends = []Frontend{{Kind: ClusterIP, Addr: netip.MustParseAddr("10.96.0.2"), Port: 80}}
	if p := lay(t, newTables(), a, b); len(p.want.frontends) != 2 {
		t.Errorf("got %v", p.want.show())
	}
}
