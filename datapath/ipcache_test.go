package datapath_test

import (
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/api"
)

// The map has what it is to have, in the order of its prefixes, whatever it had before; it stays when the data plane is
// opened again, and what somebody else has written there does not.
func TestIPCache(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	apply := func(entries ...api.IPCacheEntry) []api.IPCacheEntry {
		t.Helper()
		must(t, n.dp.IPCache().Apply(ctx(t), entries))
		return n.ipcache()
	}
	node := netip.MustParseAddr("172.18.0.3")
	entry := func(prefix string, identity uint32, on netip.Addr, own bool) api.IPCacheEntry {
		return api.IPCacheEntry{Prefix: netip.MustParsePrefix(prefix), Identity: identity, Node: on, NodeAddress: own}
	}
	world, pods, pod := entry("0.0.0.0/0", 2, netip.Addr{}, false), entry("10.0.2.0/24", 0, node, false), entry("10.0.2.7/32", 4711, node, false)
	remote, six := entry("172.18.0.3/32", 6, node, true), entry("2001:db8::/64", 2, netip.Addr{}, false)
	nobody := entry("10.0.1.0/24", 0, netip.Addr{}, false)
	all := []api.IPCacheEntry{world, nobody, pods, pod, remote, six}
	if got := apply(remote, six, pod, nobody, pods, world); !slices.Equal(got, all) {
		t.Errorf("got %+v, want %+v", got, all)
	}
	n.close()
	n.open()
	if got := n.ipcache(); !slices.Equal(got, all) {
		t.Errorf("after it was opened again: %+v, want %+v", got, all)
	}
	before := n.dp.Generation(t)
	if got := apply(all...); !slices.Equal(got, all) || n.dp.Generation(t) != before {
		t.Errorf("nothing is to be changed, and decisions are to be made anew: %v; there is %+v", n.dp.Generation(t) != before, got)
	}
	// Pods come and go all the time, where their node's prefix says they are.
	another, renamed := pod, pod
	another.Prefix, renamed.Identity = netip.MustParsePrefix("10.0.2.8/32"), 4713
	if apply(world, pods, renamed, another, remote, six); n.dp.Generation(t) != before {
		t.Error("decisions are made anew as a pod came and another has other labels")
	}
	if apply(all...); n.dp.Generation(t) != before {
		t.Error("decisions are made anew as a pod went and another has other labels")
	}
	here := another
	here.Node = netip.Addr{}
	if apply(append([]api.IPCacheEntry{here}, all...)...); n.dp.Generation(t) == before {
		t.Error("an address is on another node than its prefix says, and decisions stand")
	}
	before = n.dp.Generation(t)
	if apply(all...); n.dp.Generation(t) == before {
		t.Error("an address is where its prefix says again, and decisions stand")
	}
	n.emptyMap("lab_ipcache")
	if got := apply(all...); !slices.Equal(got, all) {
		t.Errorf("after somebody removed everything: %+v, want %+v", got, all)
	}
	moved := pod
	moved.Identity, moved.Node = 4712, netip.MustParseAddr("172.18.0.4")
	if got, want := apply(world, moved, moved), []api.IPCacheEntry{world, moved}; !slices.Equal(got, want) || n.dp.Generation(t) == before {
		t.Errorf("got %+v, want %+v, and decisions made anew", got, want)
	}
	// Bits of an address that do not count are no other prefix.
	if got, want := apply(entry("10.0.2.9/24", 0, node, false)), []api.IPCacheEntry{pods}; !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestIPCacheIsReadWhenToldTo: what changes is written by what is known of the map, whatever others do to it, until it is to
// be read again.
func TestIPCacheIsReadWhenToldTo(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	c := n.dp.IPCache()
	entry := func(prefix string, identity uint32) api.IPCacheEntry {
		return api.IPCacheEntry{Prefix: netip.MustParsePrefix(prefix), Identity: identity}
	}
	world, a, b := entry("0.0.0.0/0", 2), entry("10.0.2.7/32", 300), entry("10.0.2.8/32", 301)
	check := func(when string, want ...api.IPCacheEntry) {
		t.Helper()
		if got := n.ipcache(); !slices.Equal(got, want) {
			t.Errorf("%s: %+v, want %+v", when, got, want)
		}
	}
	must(t, c.Apply(ctx(t), []api.IPCacheEntry{world, a}))
	check("at first", world, a)
	must(t, n.dp.IPCache().Apply(ctx(t), []api.IPCacheEntry{world, b})) // somebody else
	must(t, c.Apply(ctx(t), []api.IPCacheEntry{world, a}))
	check("nothing has changed for it", world, b)
	b.Identity = 302
	must(t, c.Apply(ctx(t), []api.IPCacheEntry{world, b}))
	check("after a change", world, b)
	must(t, c.Apply(ctx(t), []api.IPCacheEntry{world}))
	check("after one went", world)
	must(t, n.dp.IPCache().Apply(ctx(t), []api.IPCacheEntry{b}))
	c.Reload()
	must(t, c.Apply(ctx(t), []api.IPCacheEntry{world}))
	check("when it was to be read again", world)
}

func (n *node) ipcache() []api.IPCacheEntry {
	n.t.Helper()
	list, err := n.dp.IPCache().List(ctx(n.t))
	must(n.t, err)
	return list
}

// emptyMap removes all entries of a pinned map, past the data plane.
func (n *node) emptyMap(name string) {
	n.t.Helper()
	m, err := ebpf.LoadPinnedMap(filepath.Join(n.BPFFS, "wirelab/maps", datapath.Layout, name), nil)
	must(n.t, err)
	defer m.Close()
	for {
		key, err := m.NextKeyBytes(nil)
		must(n.t, err)
		if key == nil {
			return
		}
		must(n.t, m.Delete(key))
	}
}
