package api

import "net/netip"

// IPCacheEntry says who has the addresses of a prefix, unless an entry for a
// longer prefix says otherwise.
type IPCacheEntry struct {
	Prefix   netip.Prefix `json:"prefix"`
	Identity uint32       `json:"identity"` // 0: it is not known
	// Node is the address of the node that they are on, by which a tunnel
	// leads there. It is the zero Addr for what is on this node, or on none.
	Node netip.Addr `json:"node,omitzero"`
	// NodeAddress says that it is an address of a node's own: other nodes
	// reach it as it is, only pods do so by a tunnel.
	NodeAddress bool `json:"nodeAddress,omitempty"`
}
