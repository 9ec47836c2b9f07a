package lb

import (
	"cmp"
	"slices"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/api"
)

// plan makes new tables from a state and the present tables. It has no side effects.
type plan struct {
	have, want *Tables
	room       capacity
	at         place

	free      space
	nextID    uint32
	known     map[backendName]uint32
	listsOf   map[uint32][]uint32 // by service: first slots of the lists that it has
	owners    map[bpf.ServiceKey]serviceID
	disputed  map[bpf.ServiceKey]bool // more than one Service claims it
	usedIDs   map[uint32]bool
	names     map[uint32]string // of services, by id
	crowded   []serviceID       // there is no room for them, in order
	lacksRoom bool              // some had to be left out for that
	squeeze   bool              // lists that stay move into free rows before theirs
	scattered bool              // there were free slots enough for a list, and no row of them
	leftOut   []api.LeftOut
	frontends int // that there are while what goes and what comes are both there
	sources   int
}

// backendName identifies a backend across restarts.
type backendName struct {
	service uint32
	addr    bpf.IP
	port    uint16
}

func nameOf(b bpf.Backend) backendName { return backendName{b.Service, b.Addr, b.Port} }

// newPlan starts from the present tables. Services, lists and backends that stay the same keep their places. New ones get
// free places, which no packet reads yet.
func newPlan(have *Tables, free space, room capacity, at place) *plan {
	p := &plan{
		have:      have,
		want:      newTables(),
		room:      room,
		at:        at,
		free:      free,
		known:     make(map[backendName]uint32, len(have.backends)),
		listsOf:   map[uint32][]uint32{},
		owners:    map[bpf.ServiceKey]serviceID{},
		disputed:  map[bpf.ServiceKey]bool{},
		usedIDs:   map[uint32]bool{},
		names:     map[uint32]string{},
		frontends: len(have.frontends),
		sources:   len(have.sources),
	}
	for id, b := range have.backends {
		p.known[nameOf(b)] = id
		p.nextID = max(p.nextID, b.Service)
	}
	for _, s := range have.frontends {
		p.nextID = max(p.nextID, s.Id)
		if s.Count > 0 && !slices.Contains(p.listsOf[s.Id], s.First) {
			p.listsOf[s.Id] = append(p.listsOf[s.Id], s.First)
		}
	}
	return p
}

// planWhole plans Services that [State.prepare] has found sound. A Service without room is left out as a whole, new and
// growing ones first, and its claims go to the others. To squeeze is to move lists together.
func planWhole(have *Tables, room capacity, at place, services []Service, squeeze bool) *plan {
	services = byID(services)
	fresh := func() *plan {
		p := newPlan(have, have.free(room), room, at)
		p.squeeze = squeeze
		return p
	}
	p := fresh()
	if squeeze { // the last rows have all others before them to move to
		slices.SortStableFunc(services, func(a, b Service) int { return cmp.Compare(p.lastRow(b), p.lastRow(a)) })
	}
	p.add(services)
	if len(p.crowded) == 0 {
		return p
	}
	services = p.staysFirst(services)
	var gone []api.LeftOut
	scattered := p.scattered
	for {
		p = fresh()
		p.add(services)
		losers := p.crowdedOwners()
		if len(losers) == 0 {
			break
		}
		services = slices.DeleteFunc(services, func(s Service) bool {
			if losers[s.id()] {
				gone = append(gone, s.noRoom())
			}
			return losers[s.id()]
		})
	}
	p.leftOut, p.lacksRoom = append(p.leftOut, gone...), len(p.crowded)+len(gone) > 0
	p.scattered = p.scattered || scattered
	return p
}

// lastRow is the last of the rows that the Service's lists have.
func (p *plan) lastRow(s Service) (last uint32) {
	for _, f := range s.onNode(p.at.NodePorts) {
		for _, scope := range scopesOf(f) {
			last = max(last, p.have.frontends[frontendKey(f.Addr, f.Port, protocols[s.Proto], scope)].First)
		}
	}
	return last
}

// staysFirst sorts Services that need no more places than they have to the front: new and growing ones must not displace
// those that are there.
func (p *plan) staysFirst(services []Service) []Service {
	var stay, others []Service
	for _, s := range services {
		if p.has(s) {
			stay = append(stay, s)
		} else {
			others = append(others, s)
		}
	}
	return append(stay, others...)
}

// has says whether all of the Service's frontends and backends are there already.
func (p *plan) has(s Service) bool {
	var id uint32
	for _, f := range s.onNode(p.at.NodePorts) {
		for _, scope := range scopesOf(f) {
			have, ok := p.have.frontends[frontendKey(f.Addr, f.Port, protocols[s.Proto], scope)]
			if !ok || id != 0 && have.Id != id {
				return false
			}
			id = have.Id
		}
	}
	c := s.choose(p.at.Name, p.at.zone)
	return !slices.ContainsFunc(slices.Concat(c.cluster, c.local), func(b Backend) bool {
		at, ok := p.known[backendName{id, bpf.IPOf(b.Addr.Addr()), bpf.PortOf(b.Addr.Port())}]
		return !ok || p.have.backends[at].Service != id
	})
}

// add puts all Services in, in the order given.
func (p *plan) add(services []Service) {
	expanded := p.expand(services)
	p.claim(services, expanded)
	p.addServices(services, expanded)
}

// addPart is add for some of the Services, all of which have their addresses and ports already.
func (p *plan) addPart(services []Service) {
	services = byID(services)
	p.addServices(services, p.expand(services))
}

// expand finds all frontends of each Service.
func (p *plan) expand(services []Service) [][]Frontend {
	expanded := make([][]Frontend, len(services))
	for i, s := range services {
		expanded[i] = s.onNode(p.at.NodePorts)
	}
	return expanded
}

func (p *plan) addServices(services []Service, expanded [][]Frontend) {
	for i, s := range services {
		own := expanded[i]
		if len(p.disputed) > 0 {
			own = slices.DeleteFunc(own, func(f Frontend) bool {
				return p.owners[frontendKey(f.Addr, f.Port, protocols[s.Proto], 0)] != s.id()
			})
		}
		if len(own) > 0 && !p.addService(s, own) {
			p.crowded = append(p.crowded, s.id())
			p.leftOut = append(p.leftOut, s.noRoom())
		}
	}
}

func (s Service) noRoom() api.LeftOut {
	return s.leaveOut(NoRoom, "%s, with %d endpoints, is not carried: the tables of Services have no room for it", s.port(), len(s.Backends))
}

// addService enters a Service at its own frontends. Without room it changes nothing.
func (p *plan) addService(s Service, frontends []Frontend) bool {
	c := s.choose(p.at.Name, p.at.zone)
	id := p.serviceID(s, frontends)
	sources := p.sourcesOf(s, id, frontends)
	var lists [2]run // for the cluster, local
	d := p.draft(id)
	newFrontends, newSources := p.lacks(s, frontends, sources)
	// Entries that are removed make room only after the new ones were written.
	fits := p.frontends+newFrontends <= int(p.room.frontends) && p.sources+newSources <= int(p.room.sources)
	for i, backends := range [][]Backend{c.cluster, c.local} {
		if fits && p.needs(s, frontends, i == 1) {
			lists[i], fits = d.addList(backends, []bpf.BackendFlag{bpf.PodLabBackendFlagLAB_IN_CLUSTER, bpf.PodLabBackendFlagLAB_IN_LOCAL}[i])
		}
	}
	if !fits {
		d.undo()
		return false
	}
	p.names[id] = s.String()
	p.frontends, p.sources = p.frontends+newFrontends, p.sources+newSources
	for _, f := range frontends {
		for _, scope := range scopesOf(f) {
			key := frontendKey(f.Addr, f.Port, protocols[s.Proto], scope)
			p.want.frontends[key] = p.frontend(s, f, id, scope, lists, c.elsewhere)
		}
	}
	for _, key := range sources {
		p.want.sources[key] = bpf.Source{}
	}
	return true
}

// lacks counts the Service's entries that are not in the tables yet.
func (p *plan) lacks(s Service, frontends []Frontend, sources []bpf.SourceKey) (newFrontends, newSources int) {
	more := map[bpf.ServiceKey]bool{}
	for _, f := range frontends {
		for _, scope := range scopesOf(f) {
			key := frontendKey(f.Addr, f.Port, protocols[s.Proto], scope)
			if _, ok := p.have.frontends[key]; !ok {
				more[key] = true
			}
		}
	}
	for _, key := range sources {
		if _, ok := p.have.sources[key]; !ok {
			newSources++
		}
	}
	return len(more), newSources
}

// serviceID is the id that one of the frontends has already, or a new one.
func (p *plan) serviceID(s Service, frontends []Frontend) uint32 {
	for _, f := range frontends {
		for _, scope := range scopesOf(f) {
			have, ok := p.have.frontends[frontendKey(f.Addr, f.Port, protocols[s.Proto], scope)]
			if ok && !p.usedIDs[have.Id] {
				p.usedIDs[have.Id] = true
				return have.Id
			}
		}
	}
	p.nextID++
	p.usedIDs[p.nextID] = true
	return p.nextID
}

// transitional are the wanted backends with both their old and new flags: while frontends are switched from one list to the
// next, members of both lists have to be valid.
func (p *plan) transitional() map[uint32]bpf.Backend {
	between := make(map[uint32]bpf.Backend, len(p.want.backends))
	for id, b := range p.want.backends {
		if old, ok := p.have.backends[id]; ok && nameOf(old) == nameOf(b) {
			b.Flags |= old.Flags
		}
		between[id] = b
	}
	return between
}
