package field

import (
	"context"
	"encoding/hex"
	"encoding/json"
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

// mapAddr is an address as in all maps: 16 bytes, here in hexadecimal.
type mapAddr struct {
	B string `json:"b"`
}

func (a mapAddr) addr() (netip.Addr, error) {
	raw, err := hex.DecodeString(a.B)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("read an address: %w", err)
	}
	addr, ok := netip.AddrFromSlice(raw)
	if !ok {
		return netip.Addr{}, fmt.Errorf("read an address: it has %d bytes", len(raw))
	}
	return addr.Unmap(), nil
}

// serviceRow is one entry of lab_services: a frontend and where its list is.
type serviceRow struct {
	Frontend
	first, count uint32
}

// ReadLB reads the backends of those frontends that wanted picks.
func ReadLB(ctx context.Context, node *Node, wanted func(Frontend) bool) (LBMap, error) {
	rows, err := readServiceRows(ctx, node, wanted)
	if err != nil {
		return nil, err
	}
	found := LBMap{}
	for _, row := range rows {
		if found[row.Frontend], err = readList(ctx, node, row.first, row.count); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func readServiceRows(ctx context.Context, node *Node, wanted func(Frontend) bool) ([]serviceRow, error) {
	entries, err := readMap(ctx, node, probe.BPFMap{Path: servicesMap, Key: "service_key", Value: "service"})
	if err != nil {
		return nil, err
	}
	var rows []serviceRow
	for _, e := range entries {
		var key struct {
			Addr  mapAddr `json:"addr"`
			Port  uint16  `json:"port"`
			Proto uint8   `json:"proto"`
			Scope uint8   `json:"scope"`
		}
		var value struct {
			First uint32 `json:"first"`
			Count uint32 `json:"count"`
		}
		if err := unmarshal(e, &key, &value); err != nil {
			return nil, fmt.Errorf("%s: read lab_services: %w", node.Name, err)
		}
		addr, err := key.Addr.addr()
		if err != nil {
			return nil, fmt.Errorf("%s: read lab_services: %w", node.Name, err)
		}
		f := Frontend{Addr: addr, Port: key.Port, Protocol: key.Proto, Scope: key.Scope}
		if wanted(f) {
			rows = append(rows, serviceRow{Frontend: f, first: value.First, count: value.Count})
		}
	}
	return rows, nil
}

// readList follows a row of slots to its backends.
func readList(ctx context.Context, node *Node, first, count uint32) ([]netip.AddrPort, error) {
	if count == 0 {
		return nil, nil
	}
	var slots []uint32
	for i := range count {
		slots = append(slots, first+i)
	}
	entries, err := readMap(ctx, node, probe.BPFMap{Path: slotsMap, Indexes: slots})
	if err != nil {
		return nil, err
	}
	var ids []uint32
	for _, e := range entries {
		var id uint32
		if err := json.Unmarshal(e.Value, &id); err != nil {
			return nil, fmt.Errorf("%s: read lab_slots: %w", node.Name, err)
		}
		ids = append(ids, id)
	}
	if entries, err = readMap(ctx, node, probe.BPFMap{Path: backendsMap, Value: "backend", Indexes: ids}); err != nil {
		return nil, err
	}
	var backends []netip.AddrPort
	for _, e := range entries {
		var index uint32
		var value struct {
			Addr mapAddr `json:"addr"`
			Port uint16  `json:"port"`
		}
		if err := unmarshal(e, &index, &value); err != nil {
			return nil, fmt.Errorf("%s: read lab_backends: %w", node.Name, err)
		}
		addr, err := value.Addr.addr()
		if err != nil {
			return nil, fmt.Errorf("%s: read lab_backends: %w", node.Name, err)
		}
		backends = append(backends, netip.AddrPortFrom(addr, value.Port))
	}
	slices.SortFunc(backends, netip.AddrPort.Compare)
	return backends, nil
}

func readMap(ctx context.Context, node *Node, spec probe.BPFMap) ([]probe.BPFEntry, error) {
	reply, err := node.Probe(ctx, probe.Request{Timeout: commandTimeout, BPFMap: &spec})
	if err != nil {
		return nil, err
	}
	if reply.BPFMap == nil {
		return nil, fmt.Errorf("%s: read the map at %s: %s", node.Name, spec.Path, reply.Failure)
	}
	return reply.BPFMap.Entries, nil
}

func unmarshal(e probe.BPFEntry, key, value any) error {
	if err := json.Unmarshal(e.Key, key); err != nil {
		return err
	}
	return json.Unmarshal(e.Value, value)
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
