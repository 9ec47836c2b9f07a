package datapath

import (
	"cmp"
	"errors"
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
	have, want *tables
	room       capacity
	node, zone string
	addrs      []netip.Addr // of the node, sorted

	rows      *rows
	nextID    uint32
	nextSlot  uint32
	known     map[backendName]uint32
	taken     map[uint32]bpf.Backend // places that are not free
	listsOf   map[uint32][]uint32    // by service: first slots of the lists that it has
	owners    map[bpf.ServiceKey]string
	usedIDs   map[uint32]bool
	names     map[uint32]string // of services, by id
	conflicts []string
}

// backendName identifies a backend across restarts.
type backendName struct {
	service uint32
	addr    bpf.IP
	port    uint16
}

func nameOf(b bpf.Backend) backendName { return backendName{b.Service, b.Addr, b.Port} }

// newPlan starts from what is there. Services, lists and backends that stay the same keep their places.
func newPlan(have *tables, room capacity, node, zone string, addrs []netip.Addr) *plan {
	p := &plan{
		have:    have,
		want:    newTables(),
		room:    room,
		node:    node,
		zone:    zone,
		addrs:   addrs,
		rows:    freeRows(have.lists, room.slots),
		known:   make(map[backendName]uint32, len(have.backends)),
		taken:   have.backends,
		listsOf: map[uint32][]uint32{},
		owners:  map[bpf.ServiceKey]string{},
		usedIDs: map[uint32]bool{},
		names:   map[uint32]string{},
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

// add puts all services in, in an order of their own, so that the same state makes the same tables.
func (p *plan) add(services []Service) error {
	services, expanded, err := p.expand(services)
	if err != nil {
		return err
	}
	p.claim(services, expanded)
	return p.addServices(services, expanded)
}

// addPart is add for some of the services, all of which have their addresses and ports already.
func (p *plan) addPart(services []Service) error {
	services, expanded, err := p.expand(services)
	if err != nil {
		return err
	}
	return p.addServices(services, expanded)
}

// expand sorts and checks services and finds all frontends of each.
func (p *plan) expand(services []Service) ([]Service, [][]Frontend, error) {
	services = slices.Clone(services)
	slices.SortFunc(services, func(a, b Service) int { return cmp.Compare(a.String(), b.String()) })
	var errs []error
	expanded := make([][]Frontend, len(services))
	for i, s := range services {
		if err := s.validate(); err != nil {
			errs = append(errs, err)
			continue
		}
		if i > 0 && services[i-1].String() == s.String() {
			errs = append(errs, fmt.Errorf("service %s is there twice", s))
			continue
		}
		expanded[i] = s.onNode(p.addrs)
	}
	return services, expanded, errors.Join(errs...)
}

func (p *plan) addServices(services []Service, expanded [][]Frontend) error {
	for i, s := range services {
		if err := p.addService(s, expanded[i]); err != nil {
			return fmt.Errorf("service %s: %w", s, err)
		}
	}
	if n := len(p.want.frontends); n > int(p.room.frontends) {
		return fmt.Errorf("the node has room for %d frontends, not %d", p.room.frontends, n)
	}
	if n := len(p.want.sources); n > int(p.room.sources) {
		return fmt.Errorf("the node has room for %d source ranges, not %d", p.room.sources, n)
	}
	slices.Sort(p.conflicts)
	return nil
}

// claim decides who gets an address and port that more than one Service wants: the kind of frontend
// first, then the order of names.
func (p *plan) claim(services []Service, expanded [][]Frontend) {
	type claimant struct {
		rank  int
		owner string
	}
	best := map[bpf.ServiceKey]claimant{}
	for i, s := range services {
		for _, f := range expanded[i] {
			key := frontendKey(f.Addr, f.Port, protocols[s.Proto], 0)
			c := claimant{kindRank(f.Kind), s.String()}
			b, taken := best[key]
			if taken && b.owner != c.owner {
				loser := c.owner
				if c.rank < b.rank {
					loser = b.owner
				}
				p.conflicts = append(p.conflicts, fmt.Sprintf("%s:%d/%s is not %s's: another has it", f.Addr, f.Port, s.Proto, loser))
			}
			if !taken || c.rank < b.rank {
				best[key] = c
			}
		}
	}
	for key, c := range best {
		p.owners[key] = c.owner
	}
}

func (p *plan) addService(s Service, frontends []Frontend) error {
	c := s.choose(p.node, p.zone)
	id := p.serviceID(s, frontends)
	p.names[id] = s.String()
	var lists [2]run // for the cluster, local
	for i, backends := range [][]Backend{c.cluster, c.local} {
		if !p.needs(s, frontends, i == 1) {
			continue
		}
		var err error
		if lists[i], err = p.addList(id, backends, []bpf.BackendFlag{bpf.PodLabBackendFlagLAB_IN_CLUSTER, bpf.PodLabBackendFlagLAB_IN_LOCAL}[i]); err != nil {
			return err
		}
	}
	for _, f := range frontends {
		for _, scope := range scopesOf(f) {
			key := frontendKey(f.Addr, f.Port, protocols[s.Proto], scope)
			if p.owners[withScope(key, 0)] != s.String() {
				continue
			}
			p.want.frontends[key] = p.frontend(s, f, id, scope, lists, c.elsewhere)
		}
	}
	p.addSources(s, id, frontends)
	return nil
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
			key := frontendKey(f.Addr, f.Port, protocols[s.Proto], scope)
			have, ok := p.have.frontends[key]
			if ok && !p.usedIDs[have.Id] && p.owners[withScope(key, 0)] == s.String() {
				p.usedIDs[have.Id] = true
				return have.Id
			}
		}
	}
	p.nextID++
	p.usedIDs[p.nextID] = true
	return p.nextID
}

// addList enters backends and finds the row of slots for them: the one that has them already, if any.
func (p *plan) addList(service uint32, backends []Backend, flag bpf.BackendFlag) (run, error) {
	ids := make([]uint32, 0, len(backends))
	for _, b := range backends {
		id, err := p.addBackend(service, b, flag)
		if err != nil {
			return run{}, err
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return run{}, nil
	}
	r := run{count: uint32(len(ids))}
	if first, ok := p.sameList(service, ids); ok {
		r.first = first
	} else if r.first, ok = p.rows.take(r.count); !ok {
		return r, fmt.Errorf("the node has no room for %d more backends in a row of its %d", r.count, p.room.slots)
	}
	p.want.lists[r.first] = ids
	p.listsOf[service] = append(p.listsOf[service], r.first)
	return r, nil
}

// sameList finds the list where the service has it already, or has just been given it.
func (p *plan) sameList(service uint32, ids []uint32) (first uint32, ok bool) {
	for _, first := range p.listsOf[service] {
		if slices.Equal(p.want.lists[first], ids) || slices.Equal(p.have.lists[first], ids) {
			return first, true
		}
	}
	return 0, false
}

func (p *plan) addBackend(service uint32, b Backend, flag bpf.BackendFlag) (uint32, error) {
	entry := bpf.Backend{Addr: toIP(b.Addr.Addr()), Port: toNetwork(b.Addr.Port()), Service: service, Flags: flag}
	if p.node != "" && b.Node == p.node {
		entry.Flags |= bpf.PodLabBackendFlagLAB_ON_NODE
	}
	id, ok := p.known[nameOf(entry)]
	if !ok {
		if id, ok = p.freeBackend(); !ok {
			return 0, fmt.Errorf("the node has room for %d backends", p.room.backends)
		}
		p.known[nameOf(entry)] = id
	}
	entry.Flags |= p.want.backends[id].Flags
	p.want.backends[id] = entry
	return id, nil
}

// freeBackend is a place that no backend has, nor had until now: packets may still be on their way to it.
func (p *plan) freeBackend() (id uint32, ok bool) {
	for ; p.nextSlot < p.room.backends; p.nextSlot++ {
		_, used := p.taken[p.nextSlot]
		if _, taken := p.want.backends[p.nextSlot]; !used && !taken {
			return p.nextSlot, true
		}
	}
	return 0, false
}

func (p *plan) addSources(s Service, id uint32, frontends []Frontend) {
	if !slices.ContainsFunc(frontends, func(f Frontend) bool { return f.Kind == LoadBalancer }) {
		return
	}
	for _, r := range s.SourceRanges {
		r = r.Masked()
		p.want.sources[bpf.SourceKey{Prefix: uint32(sourcePrefix + r.Bits()), Service: id, Addr: toIP(r.Addr())}] = bpf.Source{}
	}
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
