// Package ipam hands out the pod addresses of one node.
package ipam

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
)

var (
	// ErrExhausted says that every address of the pool is in use.
	ErrExhausted = errors.New("no free address")
	// ErrInUse says that an address is already handed out.
	ErrInUse = errors.New("address in use")
	// ErrNotInPool says that an address is not one that the pool hands out.
	ErrNotInPool = errors.New("address not in the pool")
)

// Pool is the pod addresses of one IPv4 prefix without its first address
// (the network), its second (the router) and its last (broadcast). Addresses
// are handed out in ascending order from the one handed out last, and from
// the start again after the end, so that a freed address rests for as long as
// the pool is large: peers that still hold an old pod's address in a
// connection or a DNS cache do not meet a new pod there.
//
// A Pool keeps nothing on disk; it is rebuilt with Reserve from the endpoints
// that exist. It is safe for concurrent use.
type Pool struct {
	cidr netip.Prefix

	mu   sync.Mutex
	used map[netip.Addr]struct{}
	next uint32 // offset into the prefix where the next search starts
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
	return &Pool{cidr: cidr, used: map[netip.Addr]struct{}{}, next: firstOffset}, nil
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

// Allocate hands out a free address. The error wraps [ErrExhausted] when
// there is none.
func (p *Pool) Allocate() (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	capacity := uint32(p.Capacity())
	if uint32(len(p.used)) >= capacity {
		return netip.Addr{}, fmt.Errorf("%w in %s: %d of %d in use", ErrExhausted, p.cidr, len(p.used), capacity)
	}
	for {
		offset := p.next
		p.next = p.after(offset)
		addr := p.addr(offset)
		if _, taken := p.used[addr]; !taken {
			p.used[addr] = struct{}{}
			return addr, nil
		}
	}
}

// Reserve marks one address as handed out, and the search for the next goes
// on behind the highest one reserved. Errors wrap [ErrNotInPool] or
// [ErrInUse].
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
	p.used[addr] = struct{}{}
	if offset >= p.next {
		p.next = p.after(offset)
	}
	return nil
}

// Release takes an address back and reports whether it was handed out.
func (p *Pool) Release(addr netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, taken := p.used[addr]
	delete(p.used, addr)
	return taken
}

func (p *Pool) broadcastOffset() uint32 { return 1<<(32-p.cidr.Bits()) - 1 }

func (p *Pool) after(offset uint32) uint32 {
	if offset+1 >= p.broadcastOffset() {
		return firstOffset
	}
	return offset + 1
}

func (p *Pool) base() uint32 {
	b := p.cidr.Addr().As4()
	return binary.BigEndian.Uint32(b[:])
}

func (p *Pool) addr(offset uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], p.base()+offset)
	return netip.AddrFrom4(b)
}

// offset returns where addr is in the prefix, and whether it is for pods.
func (p *Pool) offset(addr netip.Addr) (uint32, bool) {
	if !addr.Is4() || !p.cidr.Contains(addr) {
		return 0, false
	}
	b := addr.As4()
	offset := binary.BigEndian.Uint32(b[:]) - p.base()
	return offset, offset >= firstOffset && offset < p.broadcastOffset()
}
