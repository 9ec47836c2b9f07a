package agent

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/identity"
	"wirelab.dev/wirelab/internal/watch"
)

// whoIsWhere is what the ipcache is made of.
type whoIsWhere struct {
	own   self
	pods  []crd.Endpoint // of this node
	nodes []datapath.Node
	told  map[string]*crd.LabNode // by the node's name; what nodes tell of their pods
	api   []netip.Addr            // of the API server
}

// size is about how many addresses there are. Lists of them that grow in steps leave twice the garbage at every change.
func (w whoIsWhere) size() int {
	n := 4 + len(w.pods) + 2*len(w.nodes) + len(w.api)
	for _, told := range w.told {
		n += len(told.Status.Endpoints)
	}
	return n
}

// ipcacheOf says who has which address: nodes, pods, the API server, and whoever is outside. A pod that no node has told
// of is unknown, on the node that its address belongs to. What a node tells of addresses that are not its own to give is
// not believed: they may be those of a node that went.
func ipcacheOf(w whoIsWhere) []api.IPCacheEntry {
	entries := append(make([]api.IPCacheEntry, 0, w.size()),
		api.IPCacheEntry{Prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Identity: uint32(identity.World)},
		api.IPCacheEntry{Prefix: w.own.PodCIDR},
		api.IPCacheEntry{Prefix: single(w.own.PodCIDR.Addr().Next()), Identity: uint32(identity.Host), NodeAddress: true},
		api.IPCacheEntry{Prefix: single(w.own.IP), Identity: uint32(identity.Host), NodeAddress: true},
	)
	tell := func(pods []crd.Endpoint, of []netip.Prefix, node netip.Addr) {
		for _, pod := range pods {
			if inOne(of, pod.Address) {
				entries = append(entries, api.IPCacheEntry{Prefix: single(pod.Address), Identity: pod.Identity, Node: node})
			}
		}
	}
	tell(w.pods, []netip.Prefix{w.own.PodCIDR}, netip.Addr{})
	isNode := map[netip.Addr]bool{w.own.IP: true}
	for _, n := range w.nodes {
		if n.IP == w.own.IP {
			continue
		}
		isNode[n.IP] = true
		id := identity.RemoteNode
		if slices.Contains(w.api, n.IP) {
			id = identity.KubeAPIServer
		}
		entries = append(entries, api.IPCacheEntry{Prefix: single(n.IP), Identity: uint32(id), Node: n.IP, NodeAddress: true})
		for _, cidr := range n.PodCIDRs {
			entries = append(entries, api.IPCacheEntry{Prefix: cidr, Node: n.IP})
		}
		if told := w.told[n.Name]; told != nil {
			tell(told.Status.Endpoints, n.PodCIDRs, n.IP)
		}
	}
	for _, addr := range w.api {
		if !isNode[addr] {
			entries = append(entries, api.IPCacheEntry{Prefix: single(addr), Identity: uint32(identity.KubeAPIServer)})
		}
	}
	return entries
}

// selfOf is what an ipcache was made for that [ipcacheOf] has made; false for another one.
func selfOf(entries []api.IPCacheEntry) (self, bool) {
	var s self
	for _, e := range entries {
		if e.Identity == uint32(identity.Unknown) && !e.Node.IsValid() && !e.Prefix.IsSingleIP() {
			s.PodCIDR = e.Prefix
		}
	}
	for _, e := range entries {
		if e.Identity == uint32(identity.Host) && e.NodeAddress && !s.PodCIDR.Contains(e.Prefix.Addr()) {
			s.IP = e.Prefix.Addr()
		}
	}
	return s, s.PodCIDR.IsValid() && s.IP.Is4()
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func inOne(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// ipcachePace is how far apart changes of the map are at least. They take a tenth of the time, or more where they could not
// be there within a second otherwise: BenchmarkIPCache of the datapath has how long one takes.
const ipcachePace = 100 * time.Millisecond

// applyIPCache keeps the map, and lets time pass between its runs. It reads the map at every resync, and not at every change:
// reading is what takes longest.
func (n *node) applyIPCache(k *kube, own labNode) func(context.Context) error {
	var read time.Time
	ipcache := n.dp.IPCache()
	return paced(func(ctx context.Context) (next time.Time, err error) {
		if err := own.listed(ctx); err != nil {
			return next, err
		}
		if !k.apiServerInf.HasSynced() {
			return next, errors.New("the API server's own addresses are on their way")
		}
		w := whoIsWhere{own: n.self, pods: n.eps.published(), told: map[string]*crd.LabNode{}}
		if w.nodes, err = k.nodeList(); err != nil {
			return next, err
		}
		for _, told := range k.labNodes.All() {
			w.told[told.Name] = told
		}
		w.api = k.apiServers()
		start := time.Now()
		if start.Sub(read) > resyncOften/2 {
			ipcache.Reload()
			read = start
		}
		entries := ipcacheOf(w)
		n.who.Know(entries, podsOf(w))
		err = ipcache.Apply(ctx, entries)
		return time.Now().Add(min(max(ipcachePace, 10*time.Since(start)), 5*ipcachePace)), err
	})
}

// apiServers are the API server's addresses, sorted, as far as the Service kubernetes says.
func (k *kube) apiServers() []netip.Addr {
	var addrs []netip.Addr
	for _, obj := range k.apiServerInf.GetStore().List() {
		slice, ok := obj.(*discoveryv1.EndpointSlice)
		if !ok {
			continue
		}
		for _, ep := range slice.Endpoints {
			for _, text := range ep.Addresses {
				if addr, err := netip.ParseAddr(text); err == nil && addr.Is4() {
					addrs = append(addrs, addr)
				}
			}
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

// stripLabNode leaves out who wrote which field.
var stripLabNode = watch.Strip(func(n *crd.LabNode) *crd.LabNode {
	n.ManagedFields = nil
	return n
})

// podsOf are the pods that the nodes tell of, by address.
func podsOf(w whoIsWhere) map[netip.Addr]api.PodName {
	pods := make(map[netip.Addr]api.PodName, w.size())
	tell := func(endpoints []crd.Endpoint) {
		for _, e := range endpoints {
			if namespace, name, ok := strings.Cut(e.Pod, "/"); ok {
				pods[e.Address] = api.PodName{Namespace: namespace, Name: name}
			}
		}
	}
	for _, n := range w.nodes {
		if told := w.told[n.Name]; told != nil && n.IP != w.own.IP {
			tell(told.Status.Endpoints)
		}
	}
	tell(w.pods)
	return pods
}
