// Package lb plans the entries of the maps that Services are translated by, and writes them. It knows no Kubernetes type,
// and of the kernel only an interface of maps.
package lb

import (
	"errors"
	"fmt"
	stdmaps "maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/api"
)

// Balancer keeps the maps in line with the Services. It remembers their content, so that a change takes few system calls.
// It is for one goroutine at a time.
type Balancer struct {
	maps Maps
	// have is the maps' content; nil when it has to be read.
	have *Tables
	// used is how much of the arrays has to be read then; zero: all.
	used extent
	// laid is what have was made from; nil when that is not known.
	laid  *laidOut
	names map[uint32]string // by service id
}

// New returns a balancer of maps that may have been filled by an earlier one.
func New(m Maps) *Balancer { return &Balancer{maps: m, names: map[uint32]string{}} }

// Outcome is the result of an Apply or a Change.
type Outcome struct {
	// Changed counts the entries that were written, or may have been where there is an error.
	Changed int
	// Frontends and Backends count the entries that are there now.
	Frontends, Backends int
	// LeftOut is what is left out, in no order.
	LeftOut []api.LeftOut
	// LostUDP says that a Service of UDP may have lost a backend.
	LostUDP bool
}

// Name is what the API server calls a Service, of which each port is a [Service] here.
type Name struct{ Namespace, Name string }

// ErrWhole is wrapped by the error of a Change that cannot be made by itself: Apply has to be given the whole state.
var ErrWhole = errors.New("the whole state of Services is needed")

// Apply makes the maps match s, with as few changes as possible. Frontends, backends and lists that stay keep their
// ids, after a restart too; lists move only where others would have no room otherwise. No packet finds a Service half in
// one state and half in another. What cannot be carried is left out and reported, which is no error. An error comes from
// the maps; the next Apply reads them first.
func (b *Balancer) Apply(s State, on Node) (o Outcome, err error) {
	at := place{on, s.Zone}
	services, leftOut := s.prepare(at)
	if b.have == nil {
		b.laid, o.LostUDP = nil, true
		if b.used == (extent{}) {
			b.used = b.maps.everything()
		}
		if b.have, err = b.maps.read(b.used); err != nil {
			return o, err
		}
	}
	c, alone := b.laid.changeTo(services, at)
	if err := b.carry(c, alone, services, at, &o); err != nil {
		return o, err
	}
	b.laid.know(services, leftOut)
	b.finish(&o)
	return o, nil
}

// Change makes the maps match the state of the latest Apply or Change, with these Services in the place of those of
// the same name: with all of their ports, or none when they are gone. Its cost depends on their size only, not on the number
// of other Services, unless they claim what others claim, or there is no room. The error wraps [ErrWhole] where nothing
// was applied before, the latest has failed, or the node has changed.
func (b *Balancer) Change(services map[Name][]Service, on Node) (o Outcome, err error) {
	if b.have == nil || b.laid == nil || !b.laid.at.equal(place{on, b.laid.at.zone}) {
		return o, fmt.Errorf("change %d Services: %w", len(services), ErrWhole)
	}
	c, leftOut := b.laid.changeOf(services)
	known := b.laid
	known.learn(c, services, leftOut) // after an error the next Apply forgets it
	if err := b.carry(c, c.isSmall(), known.services, known.at, &o); err != nil {
		return o, err
	}
	b.laid.services, b.laid.ports, b.laid.left = known.services, known.ports, known.left // laid may be another now
	b.finish(&o)
	return o, nil
}

// finish says what there is now.
func (b *Balancer) finish(o *Outcome) {
	o.LeftOut = slices.Clone(b.laid.leftOut)
	for _, left := range b.laid.left {
		o.LeftOut = append(o.LeftOut, left...)
	}
	o.Frontends, o.Backends = len(b.have.frontends), len(b.have.backends)
}

// Reload makes the next Apply read the maps again, and mend what somebody else has changed in them.
func (b *Balancer) Reload() {
	if b.have != nil {
		b.used, b.have = b.have.extent(), nil
	}
}

// Names are the Services' names by id, as far as this balancer has given them. They are the caller's.
func (b *Balancer) Names() map[uint32]string { return stdmaps.Clone(b.names) }

// Has says whether the Service still has the backend, and the backend the address.
func (b *Balancer) Has(service, backend uint32, addr netip.AddrPort) bool {
	have, ok := b.have.backends[backend]
	return ok && nameOf(have) == backendName{service, bpf.IPOf(addr.Addr()), bpf.PortOf(addr.Port())}
}

// unknown says that a change went wrong half-way.
func (b *Balancer) unknown() { b.have, b.used = nil, extent{} }

// carry makes the maps match services, of which c are those that change. They are planned alone where that is possible, and
// else with all others.
func (b *Balancer) carry(c change, alone bool, services map[serviceID]Service, at place, o *Outcome) error {
	if alone {
		if done, err := b.applyPart(c, o); done || err != nil {
			return err
		}
	}
	return b.applyAll(services, at, o)
}

// passes are how often everything is planned while there is no room: entries that are removed make room in the next pass
// only, and lists that move together turn scattered free slots into one free row.
const passes = 6

// applyAll plans everything anew.
func (b *Balancer) applyAll(services map[serviceID]Service, at place, o *Outcome) error {
	all := slices.AppendSeq(make([]Service, 0, len(services)), stdmaps.Values(services))
	squeeze := false
	for range passes {
		p := planWhole(b.have, b.maps.capacity(), at, all, squeeze)
		changes, err := b.write(p, o)
		if err != nil {
			return err
		}
		b.have, b.names = p.want, p.names
		b.laid = &laidOut{at: at, owners: p.owners, lastID: p.nextID, disputed: p.disputed, leftOut: p.leftOut, crowded: p.lacksRoom, free: p.want.free(b.maps.capacity())}
		wasSqueezed := squeeze
		squeeze = p.scattered && !wasSqueezed
		if !p.lacksRoom || changes == 0 && !squeeze {
			break
		}
	}
	return nil
}

// applyPart plans only the Services that change, so its cost does not depend on the others. done is false when that cannot
// be done.
func (b *Balancer) applyPart(c change, o *Outcome) (done bool, err error) {
	if len(c.before)+len(c.after) == 0 {
		return true, nil
	}
	p := b.laid.planPart(b.have, b.maps.capacity(), c)
	if p == nil {
		return false, nil
	}
	if _, err := b.write(p.plan, o); err != nil {
		return false, err
	}
	for _, s := range p.have.frontends {
		delete(b.names, s.Id)
	}
	stdmaps.Copy(b.names, p.names)
	b.have.replace(p.have, p.want)
	b.laid.took(p)
	return true, nil
}

// write makes the maps what the plan wants, and returns how many entries it changed.
func (b *Balancer) write(p *plan, o *Outcome) (int, error) {
	changes, err := b.maps.write(p)
	o.Changed += changes
	o.LostUDP = o.LostUDP || p.losesUDP()
	if err != nil {
		b.unknown()
	}
	return changes, err
}

// losesUDP says whether the plan takes a backend from a Service of UDP.
func (p *plan) losesUDP() bool {
	gone := map[uint32]bool{} // Services that lose one
	for id, b := range p.have.backends {
		if stays, ok := p.want.backends[id]; !ok || nameOf(stays) != nameOf(b) {
			gone[b.Service] = true
		}
	}
	if len(gone) == 0 {
		return false
	}
	for key, s := range p.have.frontends {
		if key.Proto == unix.IPPROTO_UDP && gone[s.Id] {
			return true
		}
	}
	return false
}
