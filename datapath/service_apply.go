package datapath

import (
	"context"
	"errors"
	"fmt"
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
	laid      *laidOut
	names     map[uint32]string // by service id, for listings
	conflicts []string
}

// Services keeps the maps by which Services are translated.
type Services struct{ d *Datapath }

// Services returns the reconciler of Services.
func (d *Datapath) Services() *Services { return &Services{d: d} }

// Apply makes the maps match s, with as few changes as possible. Frontends, backends and lists that stay
// keep their ids, after a restart too: connections go on. At no moment does a packet meet a Service that
// is half of one state and half of another. NodePorts are put on the addresses that the node has now.
// The error wraps [ErrNoServices] in modes that leave Services to others.
func (v *Services) Apply(ctx context.Context, s ServiceState) error {
	if err := v.check(); err != nil {
		return err
	}
	addrs, err := v.d.nodeAddrs(ctx)
	if err != nil {
		return err
	}
	services := slices.Clone(s.Services)
	for _, p := range s.HostPorts {
		if err := p.validate(); err != nil {
			return err
		}
		services = append(services, p.service(v.d.cfg.NodeName, addrs))
	}
	e := &v.d.services
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.have == nil {
		e.laid = nil
		if e.used == (extent{}) {
			e.used = v.d.maps.services.everything()
		}
		if e.have, err = v.d.maps.services.read(e.used); err != nil {
			return err
		}
	}
	known := byID(services)
	if c, ok := e.laid.changeTo(known, s.Zone, addrs); ok && len(known) == len(services) {
		if done, err := v.applyPart(c); err != nil || done {
			return e.settle(known, err)
		}
	}
	return e.settle(known, v.applyAll(services, s.Zone, addrs))
}

// unknown says that a change went wrong half-way.
func (e *serviceEngine) unknown() { e.have, e.used = nil, extent{} }

// settle remembers what has been laid out, if it has.
func (e *serviceEngine) settle(services map[serviceID]Service, err error) error {
	if err == nil {
		e.laid.services = services
	}
	return err
}

// applyAll plans everything anew.
func (v *Services) applyAll(services []Service, zone string, addrs []netip.Addr) error {
	e := &v.d.services
	p := newPlan(e.have, v.d.maps.services.capacity(), v.d.cfg.NodeName, zone, addrs)
	if err := p.add(services); err != nil {
		return fmt.Errorf("lay Services out: %w", err)
	}
	changes, err := v.write(p)
	if err != nil {
		e.unknown()
		return err
	}
	e.have, e.names = p.want, p.names
	e.laid = &laidOut{zone: zone, addrs: addrs, owners: p.owners, lastID: p.nextID, disputed: len(p.conflicts) > 0}
	v.reportConflicts(p.conflicts)
	v.reportChanges(changes)
	return nil
}

// applyPart plans the Services that change alone, which takes hardly longer with many others. done is
// false when that cannot be done.
func (v *Services) applyPart(c change) (done bool, err error) {
	e := &v.d.services
	p, err := e.laid.planPart(e.have, v.d.maps.services.capacity(), v.d.cfg.NodeName, c)
	if err != nil {
		return false, fmt.Errorf("lay Services out: %w", err)
	}
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

func (v *Services) reportConflicts(conflicts []string) {
	e := &v.d.services
	if slices.Equal(e.conflicts, conflicts) {
		return
	}
	for _, c := range conflicts {
		v.d.log.Warn("an address and port is claimed twice", "conflict", c)
	}
	e.conflicts = conflicts
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

// nodeAddrs are the node's own IPv4 addresses, sorted: all but those on our devices, and of loopback's
// the one that everybody uses.
func (d *Datapath) nodeAddrs(ctx context.Context) ([]netip.Addr, error) {
	links, err := dump(ctx, d.nl.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	ours := map[int]bool{}
	for _, l := range links {
		name := l.Attrs().Name
		ours[l.Attrs().Index] = name == hostDevice || name == netDevice || strings.HasPrefix(name, hostIfPrefix) ||
			l.Attrs().RawFlags&unix.IFF_UP == 0
	}
	list, err := dump(ctx, func() ([]netlink.Addr, error) { return d.nl.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	addrs := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	for _, a := range list {
		if addr := toAddr(a.IP); !ours[a.LinkIndex] && !addr.IsLoopback() {
			addrs = append(addrs, addr)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), nil
}
