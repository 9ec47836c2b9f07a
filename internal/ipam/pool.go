// Package ipam hands out the pod addresses of one node.
package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

var (
	// ErrExhausted says that every address of the pool is in use.
	ErrExhausted = errors.New("no free address")
	// ErrInUse says that an address is already handed out.
	ErrInUse = errors.New("address in use")
	// ErrNotInPool says that an address is not one that the pool hands out.
	ErrNotInPool = errors.New("address not in the pool")
	// ErrKnown says that every address that is not in use was another pod's a moment ago, and other nodes may still know it
	// as that one's.
	ErrKnown = errors.New("no address that other nodes have forgotten")
)

// Rest is how long an address that was released is not handed out again, as
// long as there are others: peers that still hold an old pod's address in a
// connection or a DNS cache do not meet a new pod there. It is as long as
// other nodes remember datagrams to the old pod (LAB_TIMEOUT_UDP of
// bpf/lib/ct.h), and longer than the cluster's DNS is cached by default (30 s).
const Rest = 2 * time.Minute

// forgetting is how long other nodes have to forget who had an address once the
// API server has taken that it is free. They take a second at most where they
// hear of it at once.
const forgetting = 2 * time.Second

// Pool is the pod addresses of one IPv4 prefix without its first address
// (the network), its second (the router) and its last (broadcast). Addresses
// are handed out in ascending order from the one handed out last, and from
// the start again after the end, without those that rest. When all others are
// in use, the one that has rested for longest is next. None is handed out
// before other nodes have forgotten who had it.
//
// A Pool keeps nothing on disk; it is rebuilt with Reserve from the endpoints
// that exist, and with Retire from what is known of those that existed. It is
// safe for concurrent use.
type Pool struct {
	cidr netip.Prefix
	now  func() time.Time

	mu    sync.Mutex
	used  map[netip.Addr]bool  // whether other nodes may have been told that they are
	freed map[netip.Addr]freed // those that were in use and are not
	next  uint64               // offset into the prefix where the next search starts
}

// freed is when an address was last in use, and when other nodes were told
// that it is not; the zero Time: not yet. Of one that they never knew to be in
// use they have forgotten it.
type freed struct{ at, told time.Time }

func (f freed) rested(now time.Time) bool { return now.Sub(f.at) >= Rest && f.forgotten(now) }

func (f freed) forgotten(now time.Time) bool {
	return !f.told.IsZero() && now.Sub(f.told) >= forgetting
}

// Offsets into the prefix.
const (
	routerOffset = 1
	firstOffset  = 2
)

// maxBits is the longest prefix with an address left for a pod: of the four
// addresses of a /30 one is.
const maxBits = 30

// NewPool returns a pool in which nothing is in use. cidr must be an IPv4
// prefix of at most 30 bits without host bits set.
func NewPool(cidr netip.Prefix) (*Pool, error) {
	switch {
	case !cidr.IsValid() || !cidr.Addr().Is4():
		return nil, fmt.Errorf("make an address pool of %s: it is not an IPv4 prefix", cidr)
	case cidr != cidr.Masked():
		return nil, fmt.Errorf("make an address pool of %s: host bits are set, %s would be right", cidr, cidr.Masked())
	case cidr.Bits() > maxBits:
		return nil, fmt.Errorf("make an address pool of %s: a /%d or larger is needed to hold a pod", cidr, maxBits)
	}
	return &Pool{
		cidr: cidr, now: time.Now, next: firstOffset,
		used: map[netip.Addr]bool{}, freed: map[netip.Addr]freed{},
	}, nil
}

// CIDR returns the prefix of the pool.
func (p *Pool) CIDR() netip.Prefix { return p.cidr }

// Router returns the address that is every pod's next hop: the first one
// after the network address.
func (p *Pool) Router() netip.Addr { return p.addr(routerOffset) }

// Capacity returns how many addresses the pool has for pods.
func (p *Pool) Capacity() int { return int(p.broadcastOffset() - firstOffset) }

// Used returns how many addresses are handed out.
func (p *Pool) Used() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.used)
}

// Resting returns how many addresses are free and rest.
func (p *Pool) Resting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, n := p.now(), 0
	for _, f := range p.freed {
		if !f.rested(now) {
			n++
		}
	}
	return n
}

// Allocate hands out a free address. The error wraps [ErrExhausted] when
// there is none, and [ErrKnown] when there is none yet.
func (p *Pool) Allocate() (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	capacity := p.Capacity()
	if len(p.used) >= capacity {
		return netip.Addr{}, fmt.Errorf("%w in %s: %d of %d in use", ErrExhausted, p.cidr, len(p.used), capacity)
	}
	addr, ok := p.rested(capacity)
	if !ok {
		if addr, ok = p.longestRested(); !ok {
			return netip.Addr{}, fmt.Errorf("%w in %s: %d of %d are in use, and the others were a moment ago, or the API server does not take that they are not", ErrKnown, p.cidr, len(p.used), capacity)
		}
	}
	if offset, ok := p.offset(addr); ok {
		p.next = p.after(offset)
	}
	p.take(addr, false)
	return addr, nil
}

// rested is the next free address that does not rest.
func (p *Pool) rested(capacity int) (netip.Addr, bool) {
	now, offset := p.now(), p.next
	for range capacity {
		addr := p.addr(offset)
		offset = p.after(offset)
		if _, taken := p.used[addr]; taken {
			continue
		}
		if f, ok := p.freed[addr]; !ok || f.rested(now) {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// longestRested is the free address that was released first, of those that
// other nodes have forgotten. All free ones rest.
func (p *Pool) longestRested() (longest netip.Addr, ok bool) {
	now := p.now()
	for addr, f := range p.freed {
		if !f.forgotten(now) {
			continue
		}
		if first := p.freed[longest].at; !ok || f.at.Before(first) || f.at.Equal(first) && addr.Less(longest) {
			longest, ok = addr, true
		}
	}
	return longest, ok
}

func (p *Pool) take(addr netip.Addr, known bool) {
	p.used[addr] = known
	delete(p.freed, addr)
}

// Reserve marks one address as handed out, and the search for the next goes
// on behind the highest one reserved. Other nodes may have been told of it.
// Errors wrap [ErrNotInPool] or [ErrInUse].
func (p *Pool) Reserve(addr netip.Addr) error {
	offset, ok := p.offset(addr)
	if !ok {
		return fmt.Errorf("reserve %s in %s: %w", addr, p.cidr, ErrNotInPool)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, taken := p.used[addr]; taken {
		return fmt.Errorf("reserve %s in %s: %w", addr, p.cidr, ErrInUse)
	}
	p.take(addr, true)
	if offset >= p.next {
		p.next = p.after(offset)
	}
	return nil
}

// Release takes an address back, which rests from now on, and reports whether
// it was handed out.
func (p *Pool) Release(addr netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, taken := p.used[addr]
	delete(p.used, addr)
	if taken {
		f := freed{at: p.now()}
		if !known {
			f.told = f.at.Add(-forgetting)
		}
		p.freed[addr] = f
	}
	return taken
}

// Telling says that other nodes may be told from now on that these addresses
// are in use. One of them may have been released just before.
func (p *Pool) Telling(used []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, addr := range used {
		if _, ok := p.used[addr]; ok {
			p.used[addr] = true
		} else if f, ok := p.freed[addr]; ok {
			p.freed[addr] = freed{at: f.at}
		}
	}
}

// Told says that other nodes have been told which addresses are in use: these
// and no others.
func (p *Pool) Told(used []netip.Addr) {
	named := make(map[netip.Addr]struct{}, len(used))
	for _, addr := range used {
		named[addr] = struct{}{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for addr, f := range p.freed {
		if _, ok := named[addr]; !ok && f.told.IsZero() {
			f.told = now
			p.freed[addr] = f
		}
	}
}

// Forgotten reports whether other nodes know of an address nobody who has had
// it and has it no more.
func (p *Pool) Forgotten(addr netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, ok := p.freed[addr]
	return !ok || f.forgotten(p.now())
}

// Retire has an address rest that was released some time ago, as an earlier
// process knew. One in use, or of another pool, is left alone.
func (p *Pool) Retire(addr netip.Addr, ago time.Duration) {
	if _, ok := p.offset(addr); !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, taken := p.used[addr]; !taken {
		p.freed[addr] = freed{at: p.now().Add(-ago), told: p.freed[addr].told}
	}
}

func (p *Pool) broadcastOffset() uint64 { return size(p.cidr.Bits()) - 1 }

func (p *Pool) after(offset uint64) uint64 {
	if offset+1 >= p.broadcastOffset() {
		return firstOffset
	}
	return offset + 1
}

func (p *Pool) addr(offset uint64) netip.Addr { return address(number(p.cidr.Addr()) + offset) }

// offset returns where addr is in the prefix, and whether it is for pods.
func (p *Pool) offset(addr netip.Addr) (uint64, bool) {
	if !addr.Is4() || !p.cidr.Contains(addr) {
		return 0, false
	}
	offset := number(addr) - number(p.cidr.Addr())
	return offset, offset >= firstOffset && offset < p.broadcastOffset()
}
