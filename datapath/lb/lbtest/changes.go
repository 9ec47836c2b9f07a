// Package lbtest makes Services for tests.
package lbtest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"wirelab.dev/wirelab/datapath/lb"
)

// Changes are twelve Services that come, go, get other addresses, and are used in other ways. It is the same sequence each
// time.
type Changes struct {
	all    []lb.Service
	there  []bool
	random *rand.Rand
}

// NewChanges begins with no Service. Where they are disputed, every other Service claims an address of its neighbour.
func NewChanges(disputed bool) *Changes {
	c := &Changes{all: make([]lb.Service, 12), there: make([]bool, 12), random: rand.New(rand.NewPCG(7, 7))}
	for i := range c.all {
		shared := i
		if disputed {
			shared = i / 2
		}
		c.all[i] = lb.Service{Namespace: "n", Name: fmt.Sprint("s", i), Proto: "tcp", Frontends: []lb.Frontend{
			{Kind: lb.ClusterIP, Addr: netip.AddrFrom4([4]byte{10, 96, 1, byte(i)}), Port: 80},
			{Kind: lb.NodePort, Port: uint16(30000 + i)},
			{Kind: lb.LoadBalancer, Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + shared)}), Port: 80},
		}}
	}
	return c
}

// Next makes one change and returns the Services that there are then.
func (c *Changes) Next() (services []lb.Service) {
	switch i := c.random.IntN(len(c.all)); c.random.IntN(4) {
	case 0:
		c.there[i] = !c.there[i]
	case 1: // other addresses, also such as another had before
		c.all[i].Frontends[1].Port = uint16(30000 + 20*c.random.IntN(3) + i)
	default:
		c.use(&c.all[i])
	}
	for i, s := range c.all {
		if c.there[i] {
			s.Frontends = slices.Clone(s.Frontends)
			services = append(services, s)
		}
	}
	return services
}

// use changes how a Service is used, not where it is.
func (c *Changes) use(s *lb.Service) {
	switch c.random.IntN(5) {
	case 0:
		s.Affinity = time.Duration(c.random.IntN(3)) * time.Minute
	case 1:
		s.ExternalLocal = !s.ExternalLocal
	case 2:
		s.SourceRanges = nil
		if c.random.IntN(2) == 0 {
			s.SourceRanges = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(c.random.IntN(4)), 0}), 24)}
		}
	default:
		s.Backends = nil
		for i := range c.random.IntN(6) {
			b := lb.Backend{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, byte(10 + c.random.IntN(20))}), uint16(8000+i))}
			b.Ready = c.random.IntN(4) > 0
			b.Serving, b.Terminating = true, !b.Ready
			b.Node = []string{"a", "b"}[c.random.IntN(2)]
			s.Backends = append(s.Backends, b)
		}
	}
}
