package datapath

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/api"
)

// IPCache keeps lab_ipcache, which says who has an address and on which node it is. It reads the map at its first Apply and
// then knows what it has entered.
type IPCache struct {
	d    *Datapath
	have map[bpf.IPCacheKey]bpf.IPCacheEntry // nil: what the map has is not known
}

// IPCache returns the reconciler of who has which address.
func (d *Datapath) IPCache() *IPCache { return &IPCache{d: d} }

// Reload has the next Apply read the map again, and so mend what others have changed in it.
func (c *IPCache) Reload() {
	c.d.ipcache.Lock()
	defer c.d.ipcache.Unlock()
	c.have = nil
}

// Apply makes the map have these entries and no others. Of two for one prefix the later counts. An entry that cannot be
// entered is an error, and keeps none of the others out. What is new or another is entered before anything is removed, so
// that an address that stays known is so for every packet. Programs decide anew about their flows where an address is in
// another place than before. Where it has another identity, they tell other nodes of that after a moment at most, as long as
// they remember a decision.
func (c *IPCache) Apply(_ context.Context, entries []api.IPCacheEntry) error {
	c.d.ipcache.Lock()
	defer c.d.ipcache.Unlock()
	have := c.have
	if c.have = nil; have == nil { // what an Apply leaves half done is read again, too
		var err error
		if have, err = readIPCache(c.d.maps.ipcache); err != nil {
			return err
		}
	}
	want := make(map[bpf.IPCacheKey]bpf.IPCacheEntry, len(entries))
	for _, e := range entries {
		want[ipcacheKey(e.Prefix)] = ipcacheEntry(e)
	}
	var errs []error
	changed, m := false, c.d.maps.ipcache
	for key, e := range want {
		if old, ok := have[key]; ok && old == e {
			continue
		}
		if err := m.Put(key, e); err != nil {
			errs = append(errs, fmt.Errorf("enter %s into map %s: %w", prefixOf(key), bpf.PodMapLabIpcache, err))
			continue
		}
		changed = changed || placeIn(have, key) != placeOf(e)
	}
	for key, e := range have {
		if _, ok := want[key]; ok {
			continue
		}
		if err := forget(m, key); err != nil {
			errs = append(errs, fmt.Errorf("remove %s from map %s: %w", prefixOf(key), bpf.PodMapLabIpcache, err))
			continue
		}
		changed = changed || placeIn(want, key) != placeOf(e)
	}
	if changed {
		errs = append(errs, c.d.maps.newGeneration())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	c.have = want
	return nil
}

// place is what an entry says besides who it is.
type place struct {
	node  bpf.IP
	flags bpf.PodLabIpcacheFlag
}

func placeOf(e bpf.IPCacheEntry) place { return place{e.Node, e.Flags} }

// placeIn is what the longest prefix in entries says that covers key.
func placeIn(entries map[bpf.IPCacheKey]bpf.IPCacheEntry, key bpf.IPCacheKey) place {
	for p := prefixOf(key); p.Bits() >= 0; p = netip.PrefixFrom(p.Addr(), p.Bits()-1).Masked() {
		if e, ok := entries[ipcacheKey(p)]; ok {
			return placeOf(e)
		}
		if p.Bits() == 0 {
			break
		}
	}
	return place{}
}

// List reads the map back, sorted by address and length of the prefix.
func (c *IPCache) List(_ context.Context) ([]api.IPCacheEntry, error) {
	have, err := readIPCache(c.d.maps.ipcache)
	if err != nil {
		return nil, err
	}
	return listed(have), nil
}

// PinnedIPCache is what the pinned map says that an earlier process of this version has left, in the order of List. There is
// nothing where there is no such map.
func PinnedIPCache(bpffs string) ([]api.IPCacheEntry, error) {
	m, err := ebpf.LoadPinnedMap(pinsAt(bpffs).mapAt(bpf.PodMapLabIpcache), &ebpf.LoadPinOptions{ReadOnly: true})
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open pinned map %s: %w", bpf.PodMapLabIpcache, err)
	}
	defer m.Close()
	have, err := readIPCache(m)
	if err != nil {
		return nil, err
	}
	return listed(have), nil
}

func listed(have map[bpf.IPCacheKey]bpf.IPCacheEntry) []api.IPCacheEntry {
	list := make([]api.IPCacheEntry, 0, len(have))
	for key, e := range have {
		entry := api.IPCacheEntry{Prefix: prefixOf(key), Identity: e.Identity, NodeAddress: e.Flags&bpf.PodLabIpcacheFlagLAB_NODE_ADDRESS != 0}
		if e.Node != (bpf.IP{}) {
			entry.Node = bpf.AddrOf(e.Node)
		}
		list = append(list, entry)
	}
	slices.SortFunc(list, func(a, b api.IPCacheEntry) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	return list
}

func readIPCache(m *ebpf.Map) (map[bpf.IPCacheKey]bpf.IPCacheEntry, error) {
	have := map[bpf.IPCacheKey]bpf.IPCacheEntry{}
	enter := func(key bpf.IPCacheKey, e bpf.IPCacheEntry) { have[key] = e }
	err := eachBatch(m, enter)
	if errors.Is(err, ebpf.ErrNotSupported) { // of tries, by older kernels
		err = eachEntry(m, enter)
	}
	if err != nil {
		return nil, fmt.Errorf("list who has which address: %w", err)
	}
	return have, nil
}

// bitsBefore are those of a key that stand before an IPv4 prefix's own: 32 of padding, and 96 of a mapped address.
const bitsBefore = 32 + 96

func ipcacheKey(p netip.Prefix) bpf.IPCacheKey {
	p = p.Masked()
	return bpf.IPCacheKey{Bits: uint32(bitsBefore + p.Bits() - (p.Addr().BitLen() - 32)), Addr: bpf.IPOf(p.Addr())} //nolint:gosec // at most 160
}

func prefixOf(key bpf.IPCacheKey) netip.Prefix {
	addr := bpf.AddrOf(key.Addr)
	return netip.PrefixFrom(addr, int(key.Bits)-bitsBefore+addr.BitLen()-32)
}

func ipcacheEntry(e api.IPCacheEntry) bpf.IPCacheEntry {
	entry := bpf.IPCacheEntry{Identity: e.Identity}
	if e.Node.IsValid() {
		entry.Node = bpf.IPOf(e.Node)
	}
	if e.NodeAddress {
		entry.Flags |= bpf.PodLabIpcacheFlagLAB_NODE_ADDRESS
	}
	return entry
}
