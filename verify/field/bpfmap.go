package field

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"path"

	"wirelab.dev/wirelab/verify/probe"
)

// mapEntry is one entry of a map.
type mapEntry[K, V any] struct {
	key   K
	value V
}

// readMap reads a map of a node.
func readMap[K, V any](ctx context.Context, node *Node, spec probe.BPFMap) ([]mapEntry[K, V], error) {
	reply, err := node.Probe(ctx, probe.Request{Timeout: commandTimeout, BPFMap: &spec})
	if err != nil {
		return nil, err
	}
	if reply.BPFMap == nil {
		return nil, fmt.Errorf("%s: read the map at %s: %s", node.Name, spec.Path, reply.Failure)
	}
	entries := make([]mapEntry[K, V], len(reply.BPFMap.Entries))
	for i, e := range reply.BPFMap.Entries {
		err := json.Unmarshal(e.Key, &entries[i].key)
		if err == nil {
			err = json.Unmarshal(e.Value, &entries[i].value)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: read %s: %w", node.Name, path.Base(spec.Path), err)
		}
	}
	return entries, nil
}

// mapAddr is an address as in all maps: 16 bytes, there in hexadecimal.
type mapAddr struct{ netip.Addr }

// UnmarshalJSON reads the address as nettool writes it.
func (a *mapAddr) UnmarshalJSON(text []byte) error {
	var in struct {
		B string `json:"b"`
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	raw, err := hex.DecodeString(in.B)
	if err != nil {
		return fmt.Errorf("read an address: %w", err)
	}
	addr, ok := netip.AddrFromSlice(raw)
	if !ok {
		return fmt.Errorf("read an address: it has %d bytes", len(raw))
	}
	a.Addr = addr.Unmap()
	return nil
}
