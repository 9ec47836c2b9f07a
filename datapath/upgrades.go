package datapath

import (
	"encoding/binary"

	"wirelab.dev/wirelab/bpf"
)

// upgrades are the ways from one layout to the next, by the one that they lead to. The structs of a layout are
// written down here as they were: what the programs have now is of the newest one.
var upgrades = map[string]upgrade{
	"v3": {from: "v2", changed: map[string]conversion{
		bpf.PodMapLabEndpoints:   endpointV2,
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
