package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// ErrUsedUp says that every podCIDR of a cluster's pool is held.
var ErrUsedUp = errors.New("the pool is used up")

// ClusterPool is what a cluster's podCIDRs are cut out of. It remembers nothing: what is held is said with each question.
type ClusterPool struct {
	cidrs    []netip.Prefix
	maskSize int
}

// NewClusterPool returns a pool that cuts each of cidrs, which are IPv4, do not overlap and have no host bits set, into
// podCIDRs of maskSize bits.
func NewClusterPool(cidrs []netip.Prefix, maskSize int) (*ClusterPool, error) {
	if maskSize < 1 || maskSize > maxBits {
		return nil, fmt.Errorf("make a pool of podCIDRs of /%d: a node takes a /%d or larger", maskSize, maxBits)
	}
	for i, c := range cidrs {
		switch {
		case !c.IsValid() || !c.Addr().Is4() || c != c.Masked():
			return nil, fmt.Errorf("make a pool of %s: it is not an IPv4 CIDR", c)
		case c.Bits() > maskSize:
			return nil, fmt.Errorf("make a pool of %s: there is no /%d in it", c, maskSize)
		}
		for _, other := range cidrs[:i] {
			if c.Overlaps(other) {
				return nil, fmt.Errorf("make a pool of %s: it overlaps %s", c, other)
			}
		}
	}
	return &ClusterPool{cidrs: slices.Clone(cidrs), maskSize: maskSize}, nil
}

// String is the pool as in "10.0.0.0/12, /24 a node".
func (p *ClusterPool) String() string {
	words := make([]string, len(p.cidrs))
	for i, c := range p.cidrs {
		words[i] = c.String()
	}
	return fmt.Sprintf("%s, /%d a node", strings.Join(words, ", "), p.maskSize)
}

// Next is the lowest podCIDR, in the order of the pool's CIDRs, that overlaps none of held, which may be of any size and
// in or out of the pool. The error wraps [ErrUsedUp].
func (p *ClusterPool) Next(held []netip.Prefix) (netip.Prefix, error) {
	sorted := slices.Clone(held)
	slices.SortFunc(sorted, func(a, b netip.Prefix) int { return a.Masked().Addr().Compare(b.Masked().Addr()) })
	for _, cidr := range p.cidrs {
		if next, ok := p.gap(cidr, sorted); ok {
			return next, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("%w: %s", ErrUsedUp, p)
}

// gap is the lowest podCIDR of cidr that overlaps none of held, which is sorted by first address.
func (p *ClusterPool) gap(cidr netip.Prefix, held []netip.Prefix) (netip.Prefix, bool) {
	at := number(cidr.Addr())
	end := at + size(cidr.Bits())
	step := size(p.maskSize)
	for _, h := range held {
		if !h.IsValid() || !h.Addr().Is4() || !h.Overlaps(cidr) {
			continue
		}
		first := number(h.Masked().Addr())
		if first >= at+step {
			break // all that follow are higher still
		}
		if past := first + size(h.Bits()); past > at {
			at = (past + step - 1) / step * step
		}
	}
	if at+step > end {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(address(at), p.maskSize), true
}

// Contains tells whether a podCIDR is of the pool, whatever its size.
func (p *ClusterPool) Contains(podCIDR netip.Prefix) bool {
	return slices.ContainsFunc(p.cidrs, func(c netip.Prefix) bool {
		return c.Bits() <= podCIDR.Bits() && c.Contains(podCIDR.Addr())
	})
}

// Addresses as numbers have room for the one behind the last.

func number(a netip.Addr) uint64 {
	b := a.As4()
	return uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3])
}

func address(n uint64) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func size(bits int) uint64 { return 1 << (32 - bits) }
