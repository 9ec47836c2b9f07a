package agent

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/agent/flows"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/identity"
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

// BenchmarkWhoIsWhere is what a change of one pod costs an agent of a thousand nodes with thirty pods each, before the map.
func BenchmarkWhoIsWhere(b *testing.B) {
	w := whoIsWhere{own: self{IP: netip.MustParseAddr("172.16.0.1"), PodCIDR: netip.MustParsePrefix("10.0.0.0/24")}, told: map[string]*crd.LabNode{}}
	for i := range 1000 {
		hi, lo := byte(1+i/256), byte(i%256)
		cidr := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, hi, lo, 0}), 24)
		node := datapath.Node{Name: fmt.Sprint("n", i), IP: netip.AddrFrom4([4]byte{172, 16, hi, lo}), PodCIDRs: []netip.Prefix{cidr}}
		told := &crd.LabNode{}
		for j, addr := 0, cidr.Addr().Next().Next(); j < 30; j, addr = j+1, addr.Next() {
			told.Status.Endpoints = append(told.Status.Endpoints, crd.Endpoint{Address: addr, Identity: 300, Pod: fmt.Sprintf("ns/pod-%d-%d", i, j)})
		}
		w.nodes, w.told[node.Name] = append(w.nodes, node), told
	}
	who := flows.NewWho(identity.NewNumbers())
	b.ReportAllocs()
	for b.Loop() {
		who.Know(ipcacheOf(w), podsOf(w))
	}
}
