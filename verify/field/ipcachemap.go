package field

import (
	"context"
	"net/netip"

	"wirelab.dev/wirelab/verify/probe"
)

// ipcacheMap is where the map of who has which address is pinned, of whatever layout.
const ipcacheMap = "/sys/fs/bpf/wirelab/maps/*/lab_ipcache"

const (
	// bitsBefore are those of a key that stand before an IPv4 prefix's own: 32 of padding, and 96 of a mapped address.
	bitsBefore = 32 + 96
	// nodeAddress is the flag of a node's own addresses.
	nodeAddress = 1
)

// Holder is who has the addresses of a prefix.
type Holder struct {
	Identity uint32
	// Node is the address of the node that they are on; not valid for those of the node asked, and of none.
	Node netip.Addr
	// IsNode says that the address is a node's own.
	IsNode bool
}

// ReadIPCache reads what a node's map says of addresses.
func ReadIPCache(ctx context.Context, node *Node) (map[netip.Prefix]Holder, error) {
	type key struct {
		Bits int     `json:"bits"`
		Addr mapAddr `json:"addr"`
	}
	type value struct {
		Identity uint32  `json:"identity"`
		Node     mapAddr `json:"node"`
		Flags    uint8   `json:"flags"`
	}
	entries, err := readMap[key, value](ctx, node, probe.BPFMap{Path: ipcacheMap, Key: "ipcache_key", Value: "ipcache_entry"})
	if err != nil {
		return nil, err
	}
	found := map[netip.Prefix]Holder{}
	for _, e := range entries {
		holder := Holder{Identity: e.value.Identity, Node: e.value.Node.Addr, IsNode: e.value.Flags&nodeAddress != 0}
		if holder.Node.IsUnspecified() {
			holder.Node = netip.Addr{}
		}
		found[netip.PrefixFrom(e.key.Addr.Addr, e.key.Bits-bitsBefore)] = holder
	}
	return found, nil
}

// Single is the prefix of one address.
func Single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
