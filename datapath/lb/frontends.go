package lb

import (
	"net/netip"
	"slices"

	"wirelab.dev/wirelab/bpf"
)

func withScope(k bpf.ServiceKey, scope bpf.Scope) bpf.ServiceKey {
	k.Scope = scope
	return k
}

// scopesOf says from where a frontend is reached: a loopback address only by processes of the node, a ClusterIP only from
// inside the cluster.
func scopesOf(f Frontend) []bpf.Scope {
	if f.Kind == ClusterIP || f.Addr.IsLoopback() {
		return []bpf.Scope{bpf.PodLabScopeLAB_INSIDE}
	}
	return []bpf.Scope{bpf.PodLabScopeLAB_INSIDE, bpf.PodLabScopeLAB_OUTSIDE}
}

// isLocal says whether a frontend takes backends on this node only. Connections from inside the cluster to an external
// address of a Service are not subject to externalTrafficPolicy: on nodes without a backend they would be lost.
func isLocal(s Service, f Frontend, scope bpf.Scope) bool {
	if f.Kind == ClusterIP {
		return s.InternalLocal
	}
	return s.ExternalLocal && scope == bpf.PodLabScopeLAB_OUTSIDE
}

func (p *plan) needs(s Service, frontends []Frontend, local bool) bool {
	return slices.ContainsFunc(frontends, func(f Frontend) bool {
		return slices.ContainsFunc(scopesOf(f), func(scope bpf.Scope) bool { return isLocal(s, f, scope) == local })
	})
}

func (p *plan) frontend(s Service, f Frontend, id uint32, scope bpf.Scope, lists [2]run, elsewhere bool) bpf.Service {
	v := bpf.Service{Id: id, Affinity: uint32((s.Affinity + 999999999) / 1000000000), Kind: frontendKinds[kindRank(f.Kind)].code}
	list := lists[0]
	if isLocal(s, f, scope) {
		list = lists[1]
		v.Flags |= bpf.PodLabServiceFlagLAB_LOCAL_ONLY
		if elsewhere {
			v.Flags |= bpf.PodLabServiceFlagLAB_HAS_REMOTE
		}
	}
	if f.Kind == LoadBalancer && len(s.SourceRanges) > 0 {
		v.Flags |= bpf.PodLabServiceFlagLAB_SOURCE_RANGES
	}
	v.First, v.Count = list.first, list.count
	return v
}

// sourcesOf are the entries for the Service's source ranges, each once.
func (p *plan) sourcesOf(s Service, id uint32, frontends []Frontend) (keys []bpf.SourceKey) {
	if !slices.ContainsFunc(frontends, func(f Frontend) bool { return f.Kind == LoadBalancer }) {
		return nil
	}
	return sourceKeys(s.SourceRanges, id)
}

// sourceKeys are the entries for source ranges, each once.
func sourceKeys(ranges []netip.Prefix, service uint32) (keys []bpf.SourceKey) {
	seen := map[bpf.SourceKey]bool{}
	for _, r := range ranges {
		r = r.Masked()
		key := bpf.SourceKey{Prefix: uint32(sourcePrefix + r.Bits()), Service: service, Addr: bpf.IPOf(r.Addr())}
		if !seen[key] {
			seen[key] = true
			keys = append(keys, key)
		}
	}
	return keys
}

// sourcePrefix is how many bits of a lab_sources key come before an IPv4 address: the service's and those
// of ::ffff:0:0.
const sourcePrefix = 32 + 96
