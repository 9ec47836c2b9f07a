package lb

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/api"
)

// List says what the tables have, sorted by address, port, protocol and From. names are the Services' by id, as far
// as they are known.
func (t *Tables) List(names map[uint32]string) []api.Frontend {
	list := make([]api.Frontend, 0, len(t.frontends))
	for key, s := range t.frontends {
		list = append(list, t.describe(key, s, names[s.Id]))
	}
	slices.SortFunc(list, func(a, b api.Frontend) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.From, b.From))
	})
	return list
}

func (t *Tables) describe(key bpf.ServiceKey, s bpf.Service, name string) api.Frontend {
	st := api.Frontend{
		ID:       s.Id,
		Service:  name,
		Type:     string(KindOf(s.Kind)),
		Addr:     bpf.AddrPortOf(key.Addr, key.Port),
		Protocol: ProtocolName(key.Proto),
		From:     "inside",
		Local:    s.Flags&bpf.PodLabServiceFlagLAB_LOCAL_ONLY != 0,
		Affinity: time.Duration(s.Affinity) * time.Second,
		Backends: []api.Backend{},
	}
	if key.Scope == bpf.PodLabScopeLAB_OUTSIDE {
		st.From = "outside"
	}
	if s.Flags&bpf.PodLabServiceFlagLAB_SOURCE_RANGES != 0 {
		st.SourceRanges = t.sourceRanges(s.Id)
	}
	if s.Count == 0 {
		return st
	}
	for _, id := range t.lists[s.First] {
		b := t.backends[id]
		onNode := b.Flags&bpf.PodLabBackendFlagLAB_ON_NODE != 0
		st.Backends = append(st.Backends, api.Backend{ID: id, Addr: bpf.AddrPortOf(b.Addr, b.Port), OnNode: onNode})
	}
	return st
}

func (t *Tables) sourceRanges(service uint32) (ranges []netip.Prefix) {
	for key := range t.sources {
		if key.Service == service {
			ranges = append(ranges, netip.PrefixFrom(bpf.AddrOf(key.Addr), int(key.Prefix)-sourcePrefix))
		}
	}
	slices.SortFunc(ranges, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return ranges
}

// Count counts what the tables hold, and says nothing of the rest. Inside and outside are one frontend.
func (t *Tables) Count() *api.Services {
	st := &api.Services{Backends: len(t.backends), Frontends: map[string]int{}}
	seen := map[bpf.ServiceKey]bool{}
	services := map[uint32]bool{}
	var low, high uint16
	for key, s := range t.frontends {
		kind := KindOf(s.Kind)
		if !services[s.Id] && kind != HostPortFrontend {
			services[s.Id] = true
			st.Services++
			if s.Affinity > 0 {
				st.Affinity++
			}
		}
		if key = withScope(key, 0); seen[key] {
			continue
		}
		seen[key] = true
		st.Frontends[string(kind)]++
		if port := bpf.PortOf(key.Port); kind == NodePort {
			if low == 0 || port < low {
				low = port
			}
			high = max(high, port)
		}
	}
	switch {
	case low != high:
		st.NodePorts = fmt.Sprintf("%d-%d", low, high)
	case high != 0:
		st.NodePorts = fmt.Sprint(high)
	}
	return st
}
