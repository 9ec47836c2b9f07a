package agent

import (
	"net/netip"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/api"
)

// Identities that are the same in every cluster.
const (
	identityUnknown    = 0
	identityHost       = 1
	identityWorld      = 2
	identityRemoteNode = 6
)

// ipcacheOf says who has which address: nodes, and whoever is outside. Of pods it says on which node they are.
func ipcacheOf(own self, nodes []datapath.Node) []api.IPCacheEntry {
	one := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
	entries := []api.IPCacheEntry{
		{Prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Identity: identityWorld},
		{Prefix: own.PodCIDR, Identity: identityUnknown},
		{Prefix: one(own.PodCIDR.Addr().Next()), Identity: identityHost, NodeAddress: true},
		{Prefix: one(own.IP), Identity: identityHost, NodeAddress: true},
	}
	for _, n := range nodes {
		if n.IP == own.IP {
			continue
		}
		entries = append(entries, api.IPCacheEntry{Prefix: one(n.IP), Identity: identityRemoteNode, Node: n.IP, NodeAddress: true})
		for _, cidr := range n.PodCIDRs {
			entries = append(entries, api.IPCacheEntry{Prefix: cidr, Identity: identityUnknown, Node: n.IP})
		}
	}
	return entries
}
