package field

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"wirelab.dev/wirelab/verify/probe"
)

// Where the Service maps of every layout are pinned, and what their BTF calls
// the keys and values. The datapath is not asked: the kernel is.
const (
	servicesMap = "/sys/fs/bpf/wirelab/maps/*/lab_services"
	slotsMap    = "/sys/fs/bpf/wirelab/maps/*/lab_slots"
	backendsMap = "/sys/fs/bpf/wirelab/maps/*/lab_backends"
)

// Values of [Frontend.Scope].
const (
	ScopeInside  = 0
	ScopeOutside = 1
)

// Frontend is an address at which a node translates, and for whom: its own
// processes and pods, or those outside.
type Frontend struct {
	Addr     netip.Addr
	Port     uint16
	Protocol uint8 // as in IP headers
	Scope    uint8
}

func (f Frontend) String() string {
	protocol := map[uint8]string{6: "tcp", 17: "udp"}[f.Protocol]
	scope := map[uint8]string{ScopeInside: "inside", ScopeOutside: "outside"}[f.Scope]
	return fmt.Sprintf("%s/%s from %s", netip.AddrPortFrom(f.Addr, f.Port), protocol, scope)
}

// LBMap is what one node's maps hold: the backends of each frontend, sorted.
type LBMap map[Frontend][]netip.AddrPort

// ReadLB reads the backends of those frontends that wanted picks.
func ReadLB(ctx context.Context, node *Node, wanted func(Frontend) bool) (LBMap, error) {
	type key struct {
		Addr  mapAddr `json:"addr"`
		Port  uint16  `json:"port"`
		Proto uint8   `json:"proto"`
		Scope uint8   `json:"scope"`
	}
	type value struct {
		First uint32 `json:"first"`
		Count uint32 `json:"count"`
	}
	services, err := readMap[key, value](ctx, node, probe.BPFMap{Path: servicesMap, Key: "service_key", Value: "service"})
	if err != nil {
		return nil, err
	}
	found := LBMap{}
	for _, s := range services {
		f := Frontend{Addr: s.key.Addr.Addr, Port: s.key.Port, Protocol: s.key.Proto, Scope: s.key.Scope}
		if !wanted(f) {
			continue
		}
		if found[f], err = readList(ctx, node, s.value.First, s.value.Count); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// readList follows a row of slots to its backends.
func readList(ctx context.Context, node *Node, first, count uint32) ([]netip.AddrPort, error) {
	if count == 0 {
		return nil, nil
	}
	var slots, ids []uint32
	for i := range count {
		slots = append(slots, first+i)
	}
	found, err := readMap[uint32, uint32](ctx, node, probe.BPFMap{Path: slotsMap, Indexes: slots})
	if err != nil {
		return nil, err
	}
	for _, slot := range found {
		ids = append(ids, slot.value)
	}
	type backend struct {
		Addr mapAddr `json:"addr"`
		Port uint16  `json:"port"`
	}
	entries, err := readMap[uint32, backend](ctx, node, probe.BPFMap{Path: backendsMap, Value: "backend", Indexes: ids})
	if err != nil {
		return nil, err
	}
	var backends []netip.AddrPort
	for _, e := range entries {
		backends = append(backends, netip.AddrPortFrom(e.value.Addr.Addr, e.value.Port))
	}
	slices.SortFunc(backends, netip.AddrPort.Compare)
	return backends, nil
}

// IsFrontend picks what belongs to the Service: its ClusterIP, and its nodePorts
// at whatever address.
func (s Service) IsFrontend(f Frontend) bool {
	return f.Addr == s.Addr || f.Protocol == ProtoTCP && f.Port == s.NodePortTCP || f.Protocol == ProtoUDP && f.Port == s.NodePortUDP
}

// Protocols as in IP headers.
const (
	ProtoTCP = 6
	ProtoUDP = 17
)
