package lb

import (
	"net/netip"
	"slices"
)

// Node is the node that Services are balanced on.
type Node struct {
	// Name is what backends and topology hints call it.
	Name string
	// NodePorts are the addresses that NodePorts and host ports are on, Addrs are all of the node's. Both are sorted
	// and have no duplicates.
	NodePorts, Addrs []netip.Addr
	// Pods has the addresses of the node's pods.
	Pods netip.Prefix
}

// isOwn says whether the address is one of the node's. All of 127.0.0.0/8 is.
func (n Node) isOwn(a netip.Addr) bool {
	_, ok := slices.BinarySearchFunc(n.Addrs, a, netip.Addr.Compare)
	return ok || a.IsLoopback()
}

// isHere says whether packets to the address end on the node: at one of its pods, or at itself.
func (n Node) isHere(a netip.Addr) bool { return n.Pods.Contains(a) || n.isOwn(a) }

// place is a node and the zone it is in.
type place struct {
	Node
	zone string
}

func (p place) equal(o place) bool {
	return p.Name == o.Name && p.zone == o.zone && p.Pods == o.Pods &&
		slices.Equal(p.NodePorts, o.NodePorts) && slices.Equal(p.Addrs, o.Addrs)
}
