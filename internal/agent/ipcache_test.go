package agent

import (
	"net/netip"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/crd"
)

func TestIPCacheOfNodes(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	own := self{IP: addr("172.18.0.2"), PodCIDR: prefix("10.0.1.0/24")}
	other := addr("172.18.0.3")
	tells := func(name string, pods ...crd.Endpoint) *crd.LabNode {
		return &crd.LabNode{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: crd.LabNodeStatus{Endpoints: pods}}
	}
	got := ipcacheOf(whoIsWhere{
		own:  own,
		pods: []crd.Endpoint{{Address: addr("10.0.1.7"), Identity: 300}, {Address: addr("10.9.9.9"), Identity: 301}}, // of an earlier podCIDR
		nodes: []datapath.Node{
			{Name: "a", IP: own.IP, PodCIDRs: []netip.Prefix{own.PodCIDR}},
			{Name: "b", IP: other, PodCIDRs: []netip.Prefix{prefix("10.0.2.0/24"), prefix("10.0.3.0/24")}},
			{Name: "without pods", IP: addr("172.18.0.4")},
		},
		told: map[string]*crd.LabNode{
			"a":    tells("a", crd.Endpoint{Address: addr("10.0.1.8"), Identity: 302}), // what an earlier agent here told
			"b":    tells("b", crd.Endpoint{Address: addr("10.0.3.7"), Identity: 300}, crd.Endpoint{Address: addr("10.0.1.7"), Identity: 303}),
			"gone": tells("gone", crd.Endpoint{Address: addr("10.0.2.9"), Identity: 304}),
		},
		api: []netip.Addr{addr("172.18.0.4"), addr("192.0.2.1")},
	})
	want := []api.IPCacheEntry{
		{Prefix: prefix("0.0.0.0/0"), Identity: 2},
		{Prefix: prefix("10.0.1.0/24")},
		{Prefix: prefix("10.0.1.1/32"), Identity: 1, NodeAddress: true},
		{Prefix: prefix("172.18.0.2/32"), Identity: 1, NodeAddress: true},
		{Prefix: prefix("10.0.1.7/32"), Identity: 300},
		{Prefix: prefix("172.18.0.3/32"), Identity: 6, Node: other, NodeAddress: true},
		{Prefix: prefix("10.0.2.0/24"), Node: other},
		{Prefix: prefix("10.0.3.0/24"), Node: other},
		{Prefix: prefix("10.0.3.7/32"), Identity: 300, Node: other},
		{Prefix: prefix("172.18.0.4/32"), Identity: 7, Node: addr("172.18.0.4"), NodeAddress: true},
		{Prefix: prefix("192.0.2.1/32"), Identity: 7},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if s, ok := selfOf(got); !ok || s != own {
		t.Errorf("this is of node %+v (%v), want %+v", s, ok, own)
	}
	for name, entries := range map[string][]api.IPCacheEntry{"nothing": nil, "no podCIDR": slices.Delete(slices.Clone(want), 1, 2), "no address": slices.Delete(slices.Clone(want), 3, 4)} {
		if s, ok := selfOf(entries); ok {
			t.Errorf("an ipcache with %s is that of node %+v", name, s)
		}
	}
}
