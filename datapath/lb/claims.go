package lb

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"wirelab.dev/wirelab/bpf"
)

// crowdedOwners are the Services that have won a claim but have no room: others could have the address.
func (p *plan) crowdedOwners() map[serviceID]bool {
	losers := map[serviceID]bool{}
	for key := range p.disputed {
		if owner := p.owners[key]; slices.Contains(p.crowded, owner) {
			losers[owner] = true
		}
	}
	return losers
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
	return cmp.Or(cmp.Compare(c.rank, o.rank), c.service.compare(o.service)) < 0
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

// sayLost reports for each Service which of its addresses another Service has.
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
		p.leftOut = append(p.leftOut, who.loser.leaveOut(AddressTaken, "%s is not reached at %s: %s is there", who.loser.port(), listed(at), who.winner.title()))
	}
}

// title is how other objects' messages name the Service.
func (s Service) title() string {
	if s.hostPort {
		return fmt.Sprintf("%s of pod %s/%s", s.port(), s.pod.namespace, s.pod.name)
	}
	return fmt.Sprintf("Service %s/%s", s.Namespace, s.Name)
}
