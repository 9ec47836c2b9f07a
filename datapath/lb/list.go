package lb

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"wirelab.dev/wirelab/bpf"
)

// Entry is one frontend as the maps have it.
type Entry struct {
	// ID is the number of the Service's port, the same for all of its frontends and after a restart.
	ID uint32 `json:"id"`
	// Service is "<namespace>/<name>:<port>/<protocol>"; empty when this process has not named it yet.
	Service  string         `json:"service"`
	Kind     FrontendKind   `json:"kind"`
	Frontend netip.AddrPort `json:"frontend"`
	Proto    string         `json:"protocol"`
	// From is "inside" for what pods and the node's processes meet, "outside" for what the NICs do.
	From string `json:"from"`
	// Local says that only backends on this node are used.
	Local        bool           `json:"local"`
	Affinity     time.Duration  `json:"affinity"`
	SourceRanges []netip.Prefix `json:"sourceRanges"`
	Backends     []EntryBackend `json:"backends"`
}

// EntryBackend is one backend of an entry, in the list's order.
type EntryBackend struct {
	ID     uint32         `json:"id"`
	Addr   netip.AddrPort `json:"addr"`
	OnNode bool           `json:"onNode"`
}

// List says what the tables have, sorted by address, port, protocol and From. names are the Services' by id, as far
// as they are known.
func (t *Tables) List(names map[uint32]string) []Entry {
	list := make([]Entry, 0, len(t.frontends))
	for key, s := range t.frontends {
		list = append(list, t.describe(key, s, names[s.Id]))
	}
	slices.SortFunc(list, func(a, b Entry) int {
		return cmp.Or(a.Frontend.Compare(b.Frontend), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.From, b.From))
	})
	return list
}

func (t *Tables) describe(key bpf.ServiceKey, s bpf.Service, name string) Entry {
	st := Entry{
		ID:       s.Id,
		Service:  name,
		Kind:     KindOf(s.Kind),
		Frontend: bpf.AddrPortOf(key.Addr, key.Port),
		Proto:    ProtocolName(key.Proto),
		From:     "inside",
		Local:    s.Flags&bpf.PodLabServiceFlagLAB_LOCAL_ONLY != 0,
		Affinity: time.Duration(s.Affinity) * time.Second,
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
		st.Backends = append(st.Backends, EntryBackend{ID: id, Addr: bpf.AddrPortOf(b.Addr, b.Port), OnNode: onNode})
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

// Counts is what the maps have, in short.
type Counts struct {
	// NodePorts are the lowest and the highest port of NodePort frontends, as "30080-32000" or "32000"; empty when
	// there is none.
	NodePorts string `json:"nodePorts"`
	// Services counts ports of Services, without the host ports of pods; Affinity those of them whose clients stay with
	// their backend.
	Services int `json:"services"`
	Affinity int `json:"affinity"`
	// Frontends counts addresses and ports by kind, Backends the places that hold one.
	Frontends map[FrontendKind]int `json:"frontends"`
	Backends  int                  `json:"backends"`
}

// Count counts what the tables hold. Inside and outside are one frontend.
func (t *Tables) Count() Counts {
	st := Counts{Backends: len(t.backends), Frontends: map[FrontendKind]int{}}
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
		st.Frontends[kind]++
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
