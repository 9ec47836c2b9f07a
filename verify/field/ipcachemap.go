package field

import (
	"context"
	"fmt"
	"net/netip"

	"wirelab.dev/wirelab/verify/probe"
)

// ipcacheMap is where the map of who has which address is pinned, of whatever layout.
const ipcacheMap = "/sys/fs/bpf/wirelab/maps/*/lab_ipcache"

// wholeAddress is how many bits of a key count where it is of one address: 32 of padding, 128 of the address.
const wholeAddress = 32 + 128

// ReadIdentities reads the identities that a node's map has of single addresses.
func ReadIdentities(ctx context.Context, node *Node) (map[netip.Addr]uint32, error) {
	entries, err := readMap(ctx, node, probe.BPFMap{Path: ipcacheMap, Key: "ipcache_key", Value: "ipcache_entry"})
	if err != nil {
		return nil, err
	}
	found := map[netip.Addr]uint32{}
	for _, e := range entries {
		var key struct {
			Bits uint32  `json:"bits"`
			Addr mapAddr `json:"addr"`
		}
		var value struct {
			Identity uint32 `json:"identity"`
		}
		if err := unmarshal(e, &key, &value); err != nil {
			return nil, fmt.Errorf("%s: read lab_ipcache: %w", node.Name, err)
		}
		addr, err := key.Addr.addr()
		if err != nil {
			return nil, fmt.Errorf("%s: read lab_ipcache: %w", node.Name, err)
		}
		if key.Bits == wholeAddress {
			found[addr] = value.Identity
		}
	}
	return found, nil
}
