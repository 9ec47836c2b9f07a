package datapath

import (
	"encoding/binary"
	"fmt"
	"slices"

	"wirelab.dev/wirelab/bpf"
)

// upgrades are the ways from one layout to the next, by the one that they lead to. The structs of a layout are
// written down here as they were: what the programs have now is of the newest one.
var upgrades = map[string]upgrade{
	"v3": {from: "v2", changed: map[string]conversion{
		bpf.PodMapLabCt:          flowV2,
		bpf.PodMapLabNat:         answersV2,
		bpf.PodMapLabTurns:       sameBytes, // tuples' bytes have other names
		bpf.SockMapLabUdpFlows:   sameBytes,
		bpf.PodMapLabEndpoints:   endpointV2,
		bpf.PodMapLabEvents:      nil, // what nobody has read of them is not worth it
		bpf.PodMapLabGenerations: nil, // the programs of now remember nothing that was decided before
	}},
}

// endpointOfV2 and endpointOfV3 are struct endpoint of those layouts.
type (
	endpointOfV2 struct {
		Ifindex, ID, Veth uint32
		MACs              [12]byte // the pod's and the host-side veth's
	}
	endpointOfV3 struct {
		Ifindex, ID, Veth, Identity uint32
		MACs                        [12]byte
	}
)

// endpointV2 makes an endpoint of layout v2 one of v3: its identity is not known yet.
func endpointV2(key, value []byte) (_, converted []byte, err error) {
	var e endpointOfV2
	if _, err := binary.Decode(value, binary.NativeEndian, &e); err != nil {
		return nil, nil, err
	}
	converted, err = binary.Append(nil, binary.NativeEndian, endpointOfV3{Ifindex: e.Ifindex, ID: e.ID, Veth: e.Veth, MACs: e.MACs})
	return key, converted, err
}

func sameBytes(key, value []byte) (_, _ []byte, err error) { return key, value, nil }

// entryOfV2 is struct translation of layout v2, entryOfV3 is struct flow_entry of v3.
type (
	entryOfV2 struct {
		Ends    [36]byte // addresses and ports
		Seen    uint32
		Service uint32
		Backend uint32
		Kind    uint8
		Marks   [5]byte // answered, fin, fin_back, reset, lasting
		Turn    uint16
	}
	entryOfV3 struct {
		Seen       uint32
		Service    uint32
		Identities [2]uint32
		Kind       uint8
		Marks      [5]byte
		Turn       uint16
		Ends       [36]byte
		Backend    uint32
	}
)

// flowV2 makes an entry of lab_ct of layout v2 one of v3: the flow and what its addresses become are apart, and nothing
// is known of the identities yet.
func flowV2(key, value []byte) (_, converted []byte, err error) {
	var e entryOfV2
	if _, err := binary.Decode(value, binary.NativeEndian, &e); err != nil {
		return nil, nil, err
	}
	converted, err = binary.Append(nil, binary.NativeEndian, entryOfV3{
		Seen: e.Seen, Service: e.Service, Kind: e.Kind, Marks: e.Marks, Turn: e.Turn, Ends: e.Ends, Backend: e.Backend,
	})
	return key, converted, err
}

// directionV3 is where struct tuple of layout v3 has the direction, which is 1 in lab_nat.
const directionV3 = 38

// answersV2 makes an entry of lab_nat of layout v2 one of v3, whose key says that it is of answers.
func answersV2(key, value []byte) (back, converted []byte, err error) {
	if len(key) <= directionV3 {
		return nil, nil, fmt.Errorf("a tuple has %d bytes", len(key))
	}
	back = slices.Clone(key)
	back[directionV3] = 1
	_, converted, err = flowV2(key, value)
	return back, converted, err
}
