package datapath

import (
	"net/netip"
	"slices"

	"wirelab.dev/wirelab/bpf"
)

// laidOut is what the tables were last made from, and who got what: enough to change some Services and
// leave the others alone.
type laidOut struct {
	services map[serviceID]Service
	zone     string
	addrs    []netip.Addr
	owners   map[bpf.ServiceKey]string
}

// serviceID identifies one port of a Service.
type serviceID struct{ namespace, name, port, proto string }

func byID(services []Service) map[serviceID]Service {
	m := make(map[serviceID]Service, len(services))
	for _, s := range services {
		m[serviceID{s.Namespace, s.Name, s.Port, s.Proto}] = s
	}
	return m
}

// changed are the Services that are not as they were laid out. ok says that they are at the addresses and
// ports where they were, and all others too: then nothing but the changed ones has to be planned.
func (l *laidOut) changed(services map[serviceID]Service, zone string, addrs []netip.Addr) (changed []Service, ok bool) {
	if l == nil || zone != l.zone || !slices.Equal(addrs, l.addrs) || len(services) != len(l.services) {
		return nil, false
	}
	for id, s := range services {
		old, known := l.services[id]
		if !known || !slices.Equal(s.Frontends, old.Frontends) {
			return nil, false
		}
		if !s.sameUse(old) {
			changed = append(changed, s)
		}
	}
	return changed, true
}

// sameUse says whether both are used alike, wherever they are.
func (s Service) sameUse(o Service) bool {
	return s.Affinity == o.Affinity && s.InternalLocal == o.InternalLocal && s.ExternalLocal == o.ExternalLocal &&
		slices.Equal(s.SourceRanges, o.SourceRanges) &&
		slices.EqualFunc(s.Backends, o.Backends, func(a, b Backend) bool {
			return a.Addr == b.Addr && a.Node == b.Node && a.Ready == b.Ready && a.Serving == b.Serving &&
				a.Terminating == b.Terminating && slices.Equal(a.ForNodes, b.ForNodes) && slices.Equal(a.ForZones, b.ForZones)
		})
}

// planChanged plans the changed Services alone: from their part of the tables, and around what the rest
// occupies. ok is false when one of them has no place of its own yet.
func (l *laidOut) planChanged(have *tables, room capacity, node string, changed []Service) (p *plan, ok bool, err error) {
	ids := make(map[uint32]bool, len(changed))
	for _, s := range changed {
		id, ok := l.idIn(have, s)
		if !ok {
			return nil, false, nil
		}
		ids[id] = true
	}
	part := have.part(ids)
	p = newPlan(part, room, node, l.zone, l.addrs)
	p.rows = freeRows(have.lists, room.slots)
	p.taken = have.backends
	p.owners = l.owners
	p.room.sources -= uint32(len(have.sources) - len(part.sources))
	return p, true, p.addPart(changed)
}

// idIn is the id under which the tables have the Service: that of any frontend which it owns.
func (l *laidOut) idIn(have *tables, s Service) (id uint32, ok bool) {
	for _, f := range s.onNode(l.addrs) {
		for _, scope := range scopesOf(f) {
			key := frontendKey(f.Addr, f.Port, protocols[s.Proto], scope)
			if v, there := have.frontends[key]; there && l.owners[withScope(key, 0)] == s.String() {
				return v.Id, true
			}
		}
	}
	return 0, false
}

// part is what the Services with these ids have.
func (t *tables) part(ids map[uint32]bool) *tables {
	part := newTables()
	for k, s := range t.frontends {
		if !ids[s.Id] {
			continue
		}
		part.frontends[k] = s
		if list, ok := t.lists[s.First]; ok && s.Count > 0 {
			part.lists[s.First] = list
		}
	}
	for id, b := range t.backends {
		if ids[b.Service] {
			part.backends[id] = b
		}
	}
	for k := range t.sources {
		if ids[k.Service] {
			part.sources[k] = bpf.Source{}
		}
	}
	return part
}

// replace puts other where part was.
func (t *tables) replace(part, other *tables) {
	replace(t.frontends, part.frontends, other.frontends)
	replace(t.lists, part.lists, other.lists)
	replace(t.backends, part.backends, other.backends)
	replace(t.sources, part.sources, other.sources)
}

func replace[K comparable, V any](all, part, other map[K]V) {
	for k := range part {
		delete(all, k)
	}
	for k, v := range other {
		all[k] = v
	}
}
