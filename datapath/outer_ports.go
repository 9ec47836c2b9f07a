package datapath

import (
	"fmt"
	stdmaps "maps"
	"net/netip"
	"slices"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/datapath/lb"
)

// portRange has both of its ends.
type portRange struct{ low, high uint16 }

func (r portRange) String() string { return fmt.Sprintf("%d-%d", r.low, r.high) }

func (r portRange) size() int { return int(r.high) - int(r.low) + 1 }

// outerPorts are the ports of the frontends that are on an address of this node and can be reached from outside, sorted. It
// is empty in modes without Services in BPF.
func (d *Datapath) outerPorts() ([]uint16, error) {
	if d.maps.services == nil {
		return nil, nil
	}
	local := map[netip.Addr]bool{}
	err := eachEntry(d.maps.services.nodes, func(a bpf.IP, n bpf.Node) { local[bpf.AddrOf(a)] = n.Flags&localFlag != 0 })
	if err != nil {
		return nil, fmt.Errorf("read the node's own addresses: %w", err)
	}
	used := map[uint16]bool{}
	err = eachBatch(d.maps.services.services, func(key bpf.ServiceKey, s bpf.Service) {
		switch kind := lb.KindOf(s.Kind); {
		case key.Scope != bpf.PodLabScopeLAB_OUTSIDE:
		case kind == lb.NodePort || kind == lb.HostPortFrontend || local[bpf.AddrOf(key.Addr)]:
			used[bpf.PortOf(key.Port)] = true
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read the ports of Services: %w", err)
	}
	return slices.Sorted(stdmaps.Keys(used)), nil
}

// Ports that iptables masquerades with: below those that BPF gives to flows, and above the NodePorts of a
// usual cluster.
var masqueradeRange = portRange{32768, natMin - 1}

// everyPort that is not a well-known one and not BPF's is taken from where NodePorts leave less of
// masqueradeRange than enoughPorts.
var everyPort = portRange{1024, natMin - 1}

const enoughPorts = 4096

// masqueradePorts are ports in a row that no frontend has: the answers to what is masqueraded with a
// frontend's port would be taken for the frontend's packets. used is sorted.
func masqueradePorts(used []uint16) portRange {
	if r := longestGap(masqueradeRange, used); r.size() >= enoughPorts {
		return r
	}
	return longestGap(everyPort, used)
}

// longestGap is the longest part of the range with none of the ports, which are sorted; the first one of
// several. A range that is full of them has none, and is returned as it is.
func longestGap(within portRange, used []uint16) portRange {
	var best portRange
	longest := 0
	low := int(within.low)
	for _, p := range append(slices.Clone(used), within.high+1) {
		p := min(int(p), int(within.high)+1)
		if size := p - low; size > longest {
			best, longest = portRange{uint16(low), uint16(p - 1)}, size
		}
		low = max(low, p+1)
	}
	if longest == 0 {
		return within
	}
	return best
}
