package lb

import (
	"maps"
	"slices"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/api"
)

// laidOut is the state that the tables were last made from, and which Service got which address: enough to change some
// Services without planning the others.
type laidOut struct {
	services map[serviceID]Service
	ports    map[Name][]serviceID // of services that are no host ports
	// left is what no node can carry, by the object that it is of.
	left   map[subject][]api.LeftOut
	at     place
	owners map[bpf.ServiceKey]serviceID
	lastID uint32 // no Service has a higher one
	// disputed are the claims of several Services to one address and port: when one gives it up, another gets it.
	disputed map[bpf.ServiceKey]bool
	// leftOut are Services, or parts of them, that could not be carried because of others. When crowded, the reason is
	// a lack of room: what one gives up, another may get.
	leftOut []api.LeftOut
	crowded bool
	// free is the free part of the tables.
	free space
}

// change is the difference of two states: Services as they were, unless they are new, and as they will be, unless they are
// removed.
type change struct{ before, after []Service }

// fewAre is how many Services may be planned alone; with more, planning everything is as fast.
const fewAre = 1000

// changeTo compares the Services with those laid out. ok says that nothing else is different, and that
// they are few; of many, c has some.
func (l *laidOut) changeTo(services map[serviceID]Service, at place) (c change, ok bool) {
	if l == nil || !l.at.equal(at) {
		return c, false
	}
	for id, s := range services {
		old, known := l.services[id]
		if known && s.same(old) {
			continue
		}
		c.after = append(c.after, s)
		if known {
			c.before = append(c.before, old)
		}
		if !c.isSmall() {
			return c, false
		}
	}
	for id, old := range l.services {
		if _, stays := services[id]; stays {
			continue
		}
		c.before = append(c.before, old)
		if !c.isSmall() {
			return c, false
		}
	}
	return c, true
}

// isSmall says whether it is worth planning by itself.
func (c change) isSmall() bool { return len(c.before)+len(c.after) <= fewAre }

// subject is what something is left out of.
type subject struct {
	kind            string
	namespace, name string
}

// know notes all that is laid out, or cannot be.
func (l *laidOut) know(services map[serviceID]Service, leftOut []api.LeftOut) {
	l.services = services
	l.ports = make(map[Name][]serviceID, len(services))
	for id := range services {
		if !id.hostPort {
			l.ports[id.of()] = append(l.ports[id.of()], id)
		}
	}
	l.left = map[subject][]api.LeftOut{}
	l.leave(leftOut)
}

func (l *laidOut) leave(leftOut []api.LeftOut) {
	for _, s := range leftOut {
		of := subject{s.Kind, s.Namespace, s.Name}
		l.left[of] = append(l.left[of], s)
	}
}

// changeOf compares some Services with those laid out, and says what of them cannot be.
func (l *laidOut) changeOf(services map[Name][]Service) (c change, leftOut []api.LeftOut) {
	var s State
	for _, ports := range services {
		s.Services = append(s.Services, ports...)
	}
	now, leftOut := s.prepare(l.at)
	for name := range services {
		for _, id := range l.ports[name] {
			old := l.services[id]
			if new, stays := now[id]; stays && new.same(old) {
				delete(now, id)
				continue
			}
			c.before = append(c.before, old)
		}
	}
	c.after = slices.Collect(maps.Values(now))
	return c, leftOut
}

// learn notes a change, and what of the Services that it is of cannot be laid out.
func (l *laidOut) learn(c change, services map[Name][]Service, leftOut []api.LeftOut) {
	for name := range services {
		delete(l.left, subject{api.LeftOutService, name.Namespace, name.Name})
	}
	l.leave(leftOut)
	for _, s := range c.before {
		delete(l.services, s.id())
		l.ports[s.id().of()] = slices.DeleteFunc(l.ports[s.id().of()], func(id serviceID) bool { return id == s.id() })
		if len(l.ports[s.id().of()]) == 0 {
			delete(l.ports, s.id().of())
		}
	}
	for _, s := range c.after {
		l.services[s.id()] = s
		l.ports[s.id().of()] = append(l.ports[s.id().of()], s.id())
	}
}

func (s Service) same(o Service) bool {
	return s.Affinity == o.Affinity && s.InternalLocal == o.InternalLocal && s.ExternalLocal == o.ExternalLocal &&
		slices.Equal(s.Frontends, o.Frontends) && slices.Equal(s.SourceRanges, o.SourceRanges) &&
		slices.EqualFunc(s.Backends, o.Backends, func(a, b Backend) bool {
			return a.Addr == b.Addr && a.Node == b.Node && a.Ready == b.Ready && a.Serving == b.Serving &&
				a.Terminating == b.Terminating && slices.Equal(a.ForNodes, b.ForNodes) && slices.Equal(a.ForZones, b.ForZones)
		})
}

// claims are the addresses and ports that services want, with whose they are; ok is false when two want one.
func (l *laidOut) claims(services []Service) (claims map[bpf.ServiceKey]serviceID, ok bool) {
	claims, ok = map[bpf.ServiceKey]serviceID{}, true
	for _, s := range services {
		for _, f := range s.onNode(l.at.NodePorts) {
			key := frontendKey(f.Addr, f.Port, protocols[s.Proto], 0)
			if other, taken := claims[key]; l.disputed[key] || taken && other != s.id() {
				ok = false
			}
			claims[key] = s.id()
		}
	}
	return claims, ok
}

// part is a plan for some Services, and what becomes of their claims.
type part struct {
	*plan
	gone, claimed map[bpf.ServiceKey]serviceID
}

// planPart plans the Services of a change alone: with their part of the tables, and without the places that the rest
// occupies. It is nil when that cannot be done because the result depends on other Services.
func (l *laidOut) planPart(have *Tables, room capacity, c change) *part {
	gone, goneAlone := l.claims(c.before)
	claimed, alone := l.claims(c.after)
	if !goneAlone || !alone || l.crowded {
		return nil
	}
	for key := range claimed {
		if _, own := gone[key]; l.owners[key] != (serviceID{}) && !own {
			return nil
		}
	}
	old := have.part(gone, c.before)
	p := newPlan(old, l.free, room, l.at)
	p.owners = claimed
	p.nextID = l.lastID
	p.room.frontends -= uint32(len(have.frontends) - len(old.frontends))
	p.room.sources -= uint32(len(have.sources) - len(old.sources))
	p.addPart(c.after)
	if len(p.crowded) > 0 {
		return nil
	}
	return &part{p, gone, claimed}
}

// took notes who has what after a part was carried out.
func (l *laidOut) took(p *part) {
	for key := range p.gone {
		delete(l.owners, key)
	}
	maps.Copy(l.owners, p.claimed)
	l.lastID = p.nextID
	for first, list := range p.have.lists {
		if _, stays := p.want.lists[first]; !stays {
			l.free.slots.give(run{first, uint32(len(list))})
		}
	}
	for id := range p.have.backends {
		if _, stays := p.want.backends[id]; !stays {
			l.free.backends.give(run{id, 1})
		}
	}
}

// part is what the Services have that are at these addresses and ports: all backends of a Service are in its lists.
func (t *Tables) part(at map[bpf.ServiceKey]serviceID, services []Service) *Tables {
	part := newTables()
	ids := map[serviceID]uint32{}
	for key, owner := range at {
		for _, scope := range []bpf.Scope{bpf.PodLabScopeLAB_INSIDE, bpf.PodLabScopeLAB_OUTSIDE} {
			s, ok := t.frontends[withScope(key, scope)]
			if !ok {
				continue
			}
			ids[owner] = s.Id
			part.frontends[withScope(key, scope)] = s
			if s.Count == 0 {
				continue
			}
			part.lists[s.First] = t.lists[s.First]
			for _, id := range t.lists[s.First] {
				part.backends[id] = t.backends[id]
			}
		}
	}
	for _, s := range services {
		for _, key := range sourceKeys(s.SourceRanges, ids[s.id()]) {
			if v, ok := t.sources[key]; ok {
				part.sources[key] = v
			}
		}
	}
	return part
}

// replace puts other where part was.
func (t *Tables) replace(part, other *Tables) {
	replace(t.frontends, part.frontends, other.frontends)
	replace(t.lists, part.lists, other.lists)
	replace(t.backends, part.backends, other.backends)
	replace(t.sources, part.sources, other.sources)
}

func replace[K comparable, V any](all, part, other map[K]V) {
	for k := range part {
		delete(all, k)
	}
	maps.Copy(all, other)
}
