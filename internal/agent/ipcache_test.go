package agent

import (
	"net/netip"
	"slices"
	"testing"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/api"
)

func TestIPCacheOfNodes(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	own := self{IP: addr("172.18.0.2"), PodCIDR: prefix("10.0.1.0/24")}
	other := addr("172.18.0.3")
	got := ipcacheOf(own, []datapath.Node{
		{Name: "a", IP: own.IP, PodCIDRs: []netip.Prefix{own.PodCIDR}},
		{Name: "b", IP: other, PodCIDRs: []netip.Prefix{prefix("10.0.2.0/24"), prefix("10.0.3.0/24")}},
		{Name: "without pods", IP: addr("172.18.0.4")},
	})
	want := []api.IPCacheEntry{
		{Prefix: prefix("0.0.0.0/0"), Identity: 2},
		{Prefix: prefix("10.0.1.0/24")},
		{Prefix: prefix("10.0.1.1/32"), Identity: 1, NodeAddress: true},
		{Prefix: prefix("172.18.0.2/32"), Identity: 1, NodeAddress: true},
		{Prefix: prefix("172.18.0.3/32"), Identity: 6, Node: other, NodeAddress: true},
		{Prefix: prefix("10.0.2.0/24"), Node: other},
		{Prefix: prefix("10.0.3.0/24"), Node: other},
		{Prefix: prefix("172.18.0.4/32"), Identity: 6, Node: addr("172.18.0.4"), NodeAddress: true},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
