package datapath

import (
	"context"
	"errors"
	"fmt"
	stdmaps "maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
)

// ErrNoServices is wrapped by errors of [Services] in modes that leave Services to others.
var ErrNoServices = errors.New("this mode translates no Services")

// serviceEngine is what is known of the service maps between two calls.
type serviceEngine struct {
	mu sync.Mutex
	// have is the maps' content; nil when it has to be read.
	have *tables
	// used is how much of the maps has to be read then; zero: all.
	used extent
	// laid is what have was made from; nil when that is not known.
	laid    *laidOut
	names   map[uint32]string // by service id, for listings
	skipped skips
	// unreleased says that a UDP socket of the node's may be connected to what is no backend any more.
	unreleased, cannotRelease bool
}

// Services keeps the maps by which Services are translated.
type Services struct{ d *Datapath }

// Services returns the reconciler of Services.
func (d *Datapath) Services() *Services { return &Services{d: d} }

// Apply makes the maps match s, with as few changes as possible. Frontends, backends and lists that stay
// keep their ids, after a restart too: connections go on. At no moment does a packet meet a Service that
// is half of one state and half of another. NodePorts and host ports are put on the addresses that the node
// has now. What cannot be carried is left out, see [Services.Skipped], and is no error: the rest is.
// The error wraps [ErrNoServices] in modes that leave Services to others.
func (v *Services) Apply(ctx context.Context, s ServiceState) error {
	if err := v.check(); err != nil {
		return err
	}
	at, err := v.d.place(ctx, s.Zone)
	if err != nil {
		return err
	}
	services, skipped := s.prepare(at)
	e := &v.d.services
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.have == nil {
		e.laid, e.unreleased = nil, true
		if e.used == (extent{}) {
			e.used = v.d.maps.services.everything()
		}
		if e.have, err = v.d.maps.services.read(e.used); err != nil {
			return err
		}
	}
	done := false
	if c, ok := e.laid.changeTo(services, at); ok {
		done, err = v.applyPart(c)
	}
	if err == nil && !done {
		err = v.applyAll(slices.Collect(stdmaps.Values(services)), at)
	}
	if err != nil {
		return err
	}
	e.laid.services = services
	e.skipped.set(append(skipped, e.laid.skipped...), v.d.log)
	return v.releaseSockets(ctx)
}

// unknown says that a change went wrong half-way.
func (e *serviceEngine) unknown() { e.have, e.used = nil, extent{} }

// passes are how often all is planned while there is no room: what goes makes room for what comes once it is
// out of the tables.
const passes = 3

// applyAll plans everything anew.
func (v *Services) applyAll(services []Service, at place) error {
	e := &v.d.services
	for range passes {
		p := planAll(e.have, v.d.maps.services.capacity(), at, services)
		changes, err := v.write(p)
		if err != nil {
			e.unknown()
			return err
		}
		e.have, e.names = p.want, p.names
		e.laid = &laidOut{at: at, owners: p.owners, lastID: p.nextID, disputed: p.disputed, skipped: p.skipped, crowded: p.lacksRoom}
		v.reportChanges(changes)
		if !p.lacksRoom || changes == 0 {
			break
		}
	}
	return nil
}

// applyPart plans the Services that change alone, which takes hardly longer with many others. done is
// false when that cannot be done.
func (v *Services) applyPart(c change) (done bool, err error) {
	e := &v.d.services
	if len(c.before)+len(c.after) == 0 {
		return true, nil
	}
	p := e.laid.planPart(e.have, v.d.maps.services.capacity(), c)
	if p == nil {
		return false, nil
	}
	changes, err := v.write(p.plan)
	if err != nil {
		e.unknown()
		return false, err
	}
	for _, s := range p.have.frontends {
		delete(e.names, s.Id)
	}
	for id, name := range p.names {
		e.names[id] = name
	}
	e.have.replace(p.have, p.want)
	e.laid.took(p)
	v.reportChanges(changes)
	return true, nil
}

// write makes the maps what the plan wants. It returns how many entries it changed.
func (v *Services) write(p *plan) (int, error) {
	changes, err := v.d.maps.services.apply(p)
	if changes > 0 || err != nil {
		err = errors.Join(err, v.d.maps.newGeneration())
	}
	if p.losesUDP() {
		v.d.services.unreleased = true
	}
	return changes, err
}

// Clean removes all Services. Flows that they have begun go on until they end.
func (v *Services) Clean(ctx context.Context) error { return v.Apply(ctx, ServiceState{}) }

// Reload makes the next Apply read the maps again, and mend what somebody else has changed in them.
func (v *Services) Reload() {
	v.d.services.mu.Lock()
	defer v.d.services.mu.Unlock()
	if e := &v.d.services; e.have != nil {
		e.used, e.have = e.have.extent(), nil
	}
}

func (v *Services) check() error {
	if v.d.maps.services == nil {
		return fmt.Errorf("translate Services: %w: it is %q", ErrNoServices, v.d.cfg.Mode)
	}
	return nil
}

func (v *Services) reportChanges(changes int) {
	have := v.d.services.have
	if changes > 0 {
		v.d.log.Debug("services are set", "frontends", len(have.frontends), "backends", len(have.backends), "changes", changes)
	}
}

// apply writes the difference: what is pointed at before what points, and what points away before what
// is taken away. It returns how many entries it changed.
func (m *serviceMaps) apply(p *plan) (changed int, err error) {
	steps := []func() (int, error){
		func() (int, error) { return upsert(m.backends, p.have.backends, p.transitional()) },
		func() (int, error) { return m.writeLists(p) },
		func() (int, error) { return upsertEach(m.sources, p.have.sources, p.want.sources) },
		func() (int, error) { return upsert(m.services, p.have.frontends, p.want.frontends) },
		func() (int, error) { return remove(m.services, p.have.frontends, p.want.frontends) },
		func() (int, error) { return removeEach(m.sources, p.have.sources, p.want.sources) },
		func() (int, error) { return upsert(m.backends, p.transitional(), p.want.backends) },
		func() (int, error) { return m.clearBackends(p) },
	}
	for _, step := range steps {
		n, err := step()
		changed += n
		if err != nil {
			return changed, fmt.Errorf("write services: %w", err)
		}
	}
	return changed, nil
}

// upsert writes what is new or different.
func upsert[K, V comparable](m *ebpf.Map, have, want map[K]V) (int, error) {
	var (
		keys   []K
		values []V
	)
	for k, v := range want {
		if old, ok := have[k]; !ok || old != v {
			keys, values = append(keys, k), append(values, v)
		}
	}
	return writeBatches(m, keys, values)
}

func writeBatches[K, V any](m *ebpf.Map, keys []K, values []V) (int, error) {
	for start := 0; start < len(keys); start += batchSize {
		end := min(start+batchSize, len(keys))
		if _, err := m.BatchUpdate(keys[start:end], values[start:end], nil); err != nil {
			return start, fmt.Errorf("write map %s: %w", m, err)
		}
	}
	return len(keys), nil
}

// remove deletes what is there and not wanted.
func remove[K comparable, V any](m *ebpf.Map, have, want map[K]V) (int, error) {
	var keys []K
	for k := range have {
		if _, ok := want[k]; !ok {
			keys = append(keys, k)
		}
	}
	for start := 0; start < len(keys); start += batchSize {
		end := min(start+batchSize, len(keys))
		_, err := m.BatchDelete(keys[start:end], nil)
		if errors.Is(err, ebpf.ErrKeyNotExist) { // a batch ends where somebody else was faster
			_, err = removeEach(m, have, want)
			return len(keys), err
		}
		if err != nil {
			return start, fmt.Errorf("delete from map %s: %w", m, err)
		}
	}
	return len(keys), nil
}

// upsertEach and removeEach are for maps that know no batches.
func upsertEach[K, V comparable](m *ebpf.Map, have, want map[K]V) (n int, err error) {
	for k, v := range want {
		if old, ok := have[k]; ok && old == v {
			continue
		}
		if err := m.Put(k, v); err != nil {
			return n, fmt.Errorf("write map %s: %w", m, err)
		}
		n++
	}
	return n, nil
}

func removeEach[K comparable, V any](m *ebpf.Map, have, want map[K]V) (n int, err error) {
	for k := range have {
		if _, ok := want[k]; ok {
			continue
		}
		if err := forget(m, k); err != nil {
			return n, fmt.Errorf("delete from map %s: %w", m, err)
		}
		n++
	}
	return n, nil
}

// writeLists writes the lists that are not where they were.
func (m *serviceMaps) writeLists(p *plan) (int, error) {
	var slots, backends []uint32
	for first, list := range p.want.lists {
		if slices.Equal(p.have.lists[first], list) {
			continue
		}
		for i, id := range list {
			slots, backends = append(slots, first+uint32(i)), append(backends, id)
		}
	}
	return writeBatches(m.slots, slots, backends)
}

// clearBackends empties the places of backends that are gone.
func (m *serviceMaps) clearBackends(p *plan) (int, error) {
	var ids []uint32
	for id := range p.have.backends {
		if _, ok := p.want.backends[id]; !ok {
			ids = append(ids, id)
		}
	}
	return writeBatches(m.backends, ids, make([]bpf.Backend, len(ids)))
}

// place is this node as it is now. NodePorts are on all of its addresses but those on our devices, and of
// loopback's on the one that everybody uses.
func (d *Datapath) place(ctx context.Context, zone string) (place, error) {
	at := place{node: d.cfg.NodeName, zone: zone, pods: d.cfg.PodCIDR, nodePorts: []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}}
	links, err := dump(ctx, d.nl.LinkList)
	if err != nil {
		return at, fmt.Errorf("list devices: %w", err)
	}
	down, ours := map[int]bool{}, map[int]bool{}
	for _, l := range links {
		name := l.Attrs().Name
		down[l.Attrs().Index] = l.Attrs().RawFlags&unix.IFF_UP == 0
		ours[l.Attrs().Index] = name == hostDevice || name == netDevice || strings.HasPrefix(name, hostIfPrefix)
	}
	list, err := dump(ctx, func() ([]netlink.Addr, error) { return d.nl.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return at, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range list {
		addr := toAddr(a.IP)
		if down[a.LinkIndex] || addr.IsLoopback() {
			continue
		}
		at.own = append(at.own, addr)
		if !ours[a.LinkIndex] {
			at.nodePorts = append(at.nodePorts, addr)
		}
	}
	for _, addrs := range []*[]netip.Addr{&at.nodePorts, &at.own} {
		slices.SortFunc(*addrs, netip.Addr.Compare)
		*addrs = slices.Compact(*addrs)
	}
	return at, nil
}
