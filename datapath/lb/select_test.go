package lb

import (
	"net/netip"
	"slices"
	"testing"
)

func TestChooseBackends(t *testing.T) {
	backend := func(addr, node string, with ...func(*Backend)) Backend {
		b := Backend{Addr: netip.MustParseAddrPort(addr), Node: node, Ready: true, Serving: true}
		for _, change := range with {
			change(&b)
		}
		return b
	}
	ending := func(b *Backend) { b.Ready, b.Terminating = false, true }
	ended := func(b *Backend) { b.Ready, b.Serving, b.Terminating = false, false, true }
	unready := func(b *Backend) { b.Ready, b.Serving = false, false }
	zone := func(names ...string) func(*Backend) { return func(b *Backend) { b.ForZones = names } }
	nodes := func(names ...string) func(*Backend) { return func(b *Backend) { b.ForNodes = names } }
	for name, test := range map[string]struct {
		backends       []Backend
		cluster, local string
		elsewhere      bool
	}{
		"none": {nil, "", "", false},
		"ready ones, in order": {
			[]Backend{backend("10.0.0.2:80", "b"), backend("10.0.0.1:80", "a")},
			"10.0.0.1:80 10.0.0.2:80", "10.0.0.1:80", true,
		},
		"once each": {
			[]Backend{backend("10.0.0.2:80", "b"), backend("10.0.0.2:80", "b")},
			"10.0.0.2:80", "", true,
		},
		"not the unready": {
			[]Backend{backend("10.0.0.1:80", "a", unready), backend("10.0.0.2:80", "b")},
			"10.0.0.2:80", "", true,
		},
		"not the terminating while one is ready": {
			[]Backend{backend("10.0.0.1:80", "b", ending), backend("10.0.0.2:80", "b")},
			"10.0.0.2:80", "", true,
		},
		"the terminating when none is ready": {
			[]Backend{backend("10.0.0.1:80", "a", ending), backend("10.0.0.2:80", "b", unready)},
			"10.0.0.1:80", "10.0.0.1:80", true,
		},
		"the local one that terminates, although others are ready": {
			[]Backend{backend("10.0.0.1:80", "a", ending), backend("10.0.0.2:80", "b")},
			"10.0.0.2:80", "10.0.0.1:80", true,
		},
		"not those that have stopped serving": {
			[]Backend{backend("10.0.0.1:80", "a", ended)}, "", "", false,
		},
		"hinted for the zone": {
			[]Backend{backend("10.0.0.1:80", "a", zone("z2")), backend("10.0.0.2:80", "b", zone("z1", "z2")), backend("10.0.0.3:80", "b", zone("z1"))},
			"10.0.0.2:80 10.0.0.3:80", "10.0.0.1:80", true,
		},
		"hints that not all have do not count": {
			[]Backend{backend("10.0.0.1:80", "b", zone("z1")), backend("10.0.0.2:80", "b")},
			"10.0.0.1:80 10.0.0.2:80", "", true,
		},
		"hints that leave nothing do not count": {
			[]Backend{backend("10.0.0.1:80", "b", zone("z2")), backend("10.0.0.2:80", "b", zone("z3"))},
			"10.0.0.1:80 10.0.0.2:80", "", true,
		},
		"an unready one's hint does not matter": {
			[]Backend{backend("10.0.0.1:80", "b", unready), backend("10.0.0.2:80", "b", zone("z1")), backend("10.0.0.3:80", "b", zone("z2"))},
			"10.0.0.2:80", "", true,
		},
		"hints for the node come before those for the zone": {
			[]Backend{backend("10.0.0.1:80", "b", nodes("a"), zone("z2")), backend("10.0.0.2:80", "b", nodes("b"), zone("z1"))},
			"10.0.0.1:80", "", true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := slices.Clone(test.backends)
			got := Service{Backends: test.backends}.choose("a", "z1")
			if addrs(got.cluster) != test.cluster || addrs(got.local) != test.local || got.elsewhere != test.elsewhere {
				t.Errorf("got cluster %q, local %q, elsewhere %v; want %q, %q, %v",
					addrs(got.cluster), addrs(got.local), got.elsewhere, test.cluster, test.local, test.elsewhere)
			}
			if !slices.EqualFunc(before, test.backends, func(a, b Backend) bool { return a.Addr == b.Addr }) {
				t.Error("the given backends were changed")
			}
		})
	}
}

func addrs(backends []Backend) (list string) {
	for i, b := range backends {
		if i > 0 {
			list += " "
		}
		list += b.Addr.String()
	}
	return list
}
