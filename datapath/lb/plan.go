package lb

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
)

var protocols = map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}

// frontendKinds in the order in which they win where two Services claim the same address and port.
var frontendKinds = []struct {
	kind FrontendKind
	code bpf.FrontendKind
}{
	{ClusterIP, bpf.PodLabFrontendLAB_CLUSTER_IP},
	{ExternalIP, bpf.PodLabFrontendLAB_EXTERNAL_IP},
	{LoadBalancer, bpf.PodLabFrontendLAB_LOAD_BALANCER},
	{NodePort, bpf.PodLabFrontendLAB_NODE_PORT},
	{HostPortFrontend, bpf.PodLabFrontendLAB_HOST_PORT},
}

func kindRank(k FrontendKind) int {
	for i, f := range frontendKinds {
		if f.kind == k {
			return i
		}
	}
	return len(frontendKinds)
}

// plan is the making of new tables from a state and what is there. It has no side effects.
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
	skipped   []Skipped
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

// newPlan starts from what is there. Services, lists and backends that stay the same keep their places. What is new
// gets places of free, where no packet looks yet.
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

// planAll plans Services that [State.prepare] has found sound. What there is no room for is left out as
// a whole: first of all what comes or grows, and what it claims goes to the others.
func planAll(have *Tables, room capacity, at place, services []Service) *plan {
	return planWhole(have, room, at, services, false)
}

// planWhole is planAll, which may have lists move together.
func planWhole(have *Tables, room capacity, at place, services []Service, squeeze bool) *plan {
	services = slices.Clone(services)
	slices.SortFunc(services, func(a, b Service) int { return a.id().compare(b.id()) })
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
	var gone []Skipped
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
	p.skipped, p.lacksRoom = append(p.skipped, gone...), len(p.crowded)+len(gone) > 0
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

// staysFirst puts those in front that need no more places than they have: who comes, or grows, must not push
// out who was there.
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

// crowdedOwners are the Services without room that keep others from what they claim.
func (p *plan) crowdedOwners() map[serviceID]bool {
	losers := map[serviceID]bool{}
	for key := range p.disputed {
		if owner := p.owners[key]; slices.Contains(p.crowded, owner) {
			losers[owner] = true
		}
	}
	return losers
}

// add puts all Services in, in the order given.
func (p *plan) add(services []Service) {
	expanded := p.expand(services)
	p.claim(services, expanded)
	p.addServices(services, expanded)
}

// addPart is add for some of the Services, all of which have their addresses and ports already.
func (p *plan) addPart(services []Service) {
	services = slices.Clone(services)
	slices.SortFunc(services, func(a, b Service) int { return a.id().compare(b.id()) })
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
		own := slices.DeleteFunc(expanded[i], func(f Frontend) bool {
			return p.owners[frontendKey(f.Addr, f.Port, protocols[s.Proto], 0)] != s.id()
		})
		if len(own) > 0 && !p.addService(s, own) {
			p.crowded = append(p.crowded, s.id())
			p.skipped = append(p.skipped, s.noRoom())
		}
	}
}

func (s Service) noRoom() Skipped {
	return s.skip(NoRoom, "%s, with %d endpoints, is not carried: the tables of Services have no room for it", s.port(), len(s.Backends))
}

// claim decides who gets an address and port that more than one Service wants: the kind of frontend
// first, then the order of names.
func (p *plan) claim(services []Service, expanded [][]Frontend) {
	best := make(map[bpf.ServiceKey]claimant, len(services))
	var lost []dispute
	for i := range services {
		s := &services[i]
		for _, f := range expanded[i] {
			key := frontendKey(f.Addr, f.Port, protocols[s.Proto], 0)
			c := claimant{rankOf(f), s}
			b, taken := best[key]
			switch {
			case !taken:
				best[key] = c
			case b.service == s:
				best[key] = claimant{min(c.rank, b.rank), s}
			case c.before(b):
				best[key] = c
				fallthrough
			default:
				p.disputed[key] = true
				lost = append(lost, dispute{key, c}, dispute{key, b})
			}
		}
	}
	for key, c := range best {
		p.owners[key] = c.service.id()
	}
	p.sayLost(lost, best)
}

// claimant is a Service that wants an address and port.
type claimant struct {
	rank    int
	service *Service
}

func (c claimant) before(o claimant) bool {
	return cmp.Or(cmp.Compare(c.rank, o.rank), c.service.id().compare(o.service.id())) < 0
}

// dispute is one claim of several to an address and port.
type dispute struct {
	key  bpf.ServiceKey
	from claimant
}

// rankOf is a frontend's place among those that claim the same: a host port that names the address comes
// before one for all of them.
func rankOf(f Frontend) int {
	rank := 2 * kindRank(f.Kind)
	if f.everywhere {
		rank++
	}
	return rank
}

// sayLost says of each Service which of its addresses are another's.
func (p *plan) sayLost(lost []dispute, best map[bpf.ServiceKey]claimant) {
	type pair struct{ loser, winner *Service }
	addrs := map[pair][]string{}
	for _, d := range lost {
		loser, winner := d.from.service, best[d.key].service
		if loser == winner || loser.hostPort && winner.hostPort && loser.Backends[0].Addr == winner.Backends[0].Addr {
			continue // a pod's port on one address and on all of them leads to the same
		}
		at := netip.AddrPortFrom(bpf.AddrOf(d.key.Addr), bpf.PortOf(d.key.Port)).String()
		addrs[pair{loser, winner}] = append(addrs[pair{loser, winner}], at)
	}
	for who, at := range addrs {
		slices.Sort(at)
		at = slices.Compact(at)
		p.skipped = append(p.skipped, who.loser.skip(AddressTaken, "%s is not reached at %s: %s is there", who.loser.port(), listed(at), who.winner.title()))
	}
}

// title is how other objects' messages name the Service.
func (s Service) title() string {
	if s.hostPort {
		return fmt.Sprintf("%s of pod %s/%s", s.port(), s.pod.namespace, s.pod.name)
	}
	return fmt.Sprintf("Service %s/%s", s.Namespace, s.Name)
}

// addService lays a Service out at its own frontends. When there is no room for it, nothing is done.
func (p *plan) addService(s Service, frontends []Frontend) bool {
	c := s.choose(p.at.Name, p.at.zone)
	id := p.serviceID(s, frontends)
	sources := p.sourcesOf(s, id, frontends)
	var lists [2]run // for the cluster, local
	d := p.draft(id)
	fits := p.reserve(s, frontends, sources)
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
	for _, f := range frontends {
		for _, scope := range scopesOf(f) {
			p.enter(frontendKey(f.Addr, f.Port, protocols[s.Proto], scope), p.frontend(s, f, id, scope, lists, c.elsewhere))
		}
	}
	for _, key := range sources {
		if _, ok := p.have.sources[key]; !ok {
			p.sources++
		}
		p.want.sources[key] = bpf.Source{}
	}
	return true
}

// reserve says whether the tables have room for what leads to the Service. What goes away makes room only when
// what comes is there.
func (p *plan) reserve(s Service, frontends []Frontend, sources []bpf.SourceKey) bool {
	more := map[bpf.ServiceKey]bool{}
	for _, f := range frontends {
		for _, scope := range scopesOf(f) {
			key := frontendKey(f.Addr, f.Port, protocols[s.Proto], scope)
			if _, ok := p.have.frontends[key]; !ok {
				more[key] = true
			}
		}
	}
	comes := 0
	for _, key := range sources {
		if _, ok := p.have.sources[key]; !ok {
			comes++
		}
	}
	return p.frontends+len(more) <= int(p.room.frontends) && p.sources+comes <= int(p.room.sources)
}

func (p *plan) enter(key bpf.ServiceKey, v bpf.Service) {
	_, there := p.have.frontends[key]
	if _, again := p.want.frontends[key]; !there && !again {
		p.frontends++
	}
	p.want.frontends[key] = v
}

func withScope(k bpf.ServiceKey, scope bpf.Scope) bpf.ServiceKey {
	k.Scope = scope
	return k
}

// scopesOf says from where a frontend is reached. Loopback is the node's own processes', ClusterIPs are
// the cluster's.
func scopesOf(f Frontend) []bpf.Scope {
	if f.Kind == ClusterIP || f.Addr.IsLoopback() {
		return []bpf.Scope{bpf.PodLabScopeLAB_INSIDE}
	}
	return []bpf.Scope{bpf.PodLabScopeLAB_INSIDE, bpf.PodLabScopeLAB_OUTSIDE}
}

// isLocal says whether a frontend takes backends on this node only. What comes from inside the cluster to
// an outer address of a Service is not held to the policy for the outside: it would be lost on the nodes
// without a backend.
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

// draft is what is entered for a Service until it is known to fit.
type draft struct {
	*plan
	id       uint32
	had      int // lists that the Service has
	backends []uint32
	lists    []uint32
	rowsOf   []run // that were free
	fresh    []backendName
}

func (p *plan) draft(id uint32) *draft { return &draft{plan: p, id: id, had: len(p.listsOf[id])} }

// undo takes all of it out again.
func (d *draft) undo() {
	for _, id := range d.backends {
		delete(d.want.backends, id)
	}
	for _, name := range d.fresh {
		d.free.backends.give(run{d.known[name], 1})
		delete(d.known, name)
	}
	for _, first := range d.lists {
		delete(d.want.lists, first)
	}
	for _, r := range d.rowsOf {
		d.free.slots.give(r)
	}
	d.listsOf[d.id] = d.listsOf[d.id][:d.had]
}

// addList enters backends and finds the row of slots for them: the one that has them already, if any. ok is
// false when there is no room.
func (d *draft) addList(backends []Backend, flag bpf.BackendFlag) (r run, ok bool) {
	if len(backends) == 0 {
		return run{}, true
	}
	ids := make([]uint32, 0, len(backends))
	for _, b := range backends {
		id, ok := d.addBackend(b, flag)
		if !ok {
			return run{}, false
		}
		ids = append(ids, id)
	}
	r.count = uint32(len(ids))
	if r.first, ok = d.rowFor(ids); !ok {
		d.scattered = d.scattered || d.free.slots.size() >= r.count
		return run{}, false
	}
	d.want.lists[r.first] = ids
	d.lists = append(d.lists, r.first)
	d.listsOf[d.id] = append(d.listsOf[d.id], r.first)
	return r, true
}

// rowFor is the first slot for a list: where the service has just been given it, or has it already, or else where a
// row is free.
func (d *draft) rowFor(ids []uint32) (first uint32, ok bool) {
	for _, first := range d.listsOf[d.id] {
		if slices.Equal(d.want.lists[first], ids) {
			return first, true
		}
	}
	for _, has := range d.listsOf[d.id] {
		if slices.Equal(d.have.lists[has], ids) {
			first, ok = has, true
			break
		}
	}
	if ok && !d.squeeze {
		return first, true
	}
	r := run{count: uint32(len(ids))}
	row, found := d.free.slots.take(r.count)
	r.first = row
	switch {
	case !found:
		return first, ok
	case ok && row > first:
		d.free.slots.give(r)
		return first, true
	}
	d.rowsOf = append(d.rowsOf, r)
	return row, true
}

func (d *draft) addBackend(b Backend, flag bpf.BackendFlag) (uint32, bool) {
	entry := bpf.Backend{Addr: bpf.IPOf(b.Addr.Addr()), Port: bpf.PortOf(b.Addr.Port()), Service: d.id, Flags: flag}
	if d.at.isHere(b.Addr.Addr()) {
		entry.Flags |= bpf.PodLabBackendFlagLAB_ON_NODE
	}
	name := nameOf(entry)
	id, ok := d.known[name]
	if !ok {
		if id, ok = d.free.backends.take(1); !ok {
			return 0, false
		}
		d.known[name] = id
		d.fresh = append(d.fresh, name)
	}
	entry.Flags |= d.want.backends[id].Flags
	d.want.backends[id] = entry
	d.backends = append(d.backends, id)
	return id, true
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

// transitional are the backends wanted, with the flags of before besides those of after: while frontends
// are switched from one list to the next, members of both count.
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
