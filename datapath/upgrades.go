package datapath

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
)

// upgrades are the ways from one layout to the next, by the one that they lead to. The structs of a layout are
// written down here as they were: what the programs have now is of the newest one.
var upgrades = map[string]upgrade{
	"v2": {from: "v1", changed: map[string]conversion{
		bpf.PodMapLabCt:        flowV1,
		bpf.PodMapLabNat:       flowV1,
		bpf.PodMapLabEvents:    nil,
		bpf.PodMapLabFragments: nil, // whose datagrams are complete, or lost, before anybody looks
		bpf.SockMapLabSockets:  nil, // which nobody can list; it is found again with the next connect
	}},
}

// translationV1 and translationV2 are struct translation of those layouts.
type (
	translationV1 struct {
		Ends    [36]byte // addresses and ports
		Expires uint32
		Service uint32
		Backend uint32
		State   uint8
		Kind    uint8
		_       [6]byte
	}
	translationV2 struct {
		Ends     [36]byte
		Seen     uint32
		Service  uint32
		Backend  uint32
		Kind     uint8
		Answered uint8
		Fin      uint8
		FinBack  uint8
		Reset    uint8
		Lasting  uint8
		Turn     uint16
	}
)

// What translationV1's state says.
const (
	answeredV1 = 1 << iota
	finV1
	finBackV1
	resetV1
)

// protoV1 is where struct tuple has the protocol.
const protoV1 = 36

// flowV1 makes a flow of layout v1 one of v2: marks are bytes of their own, and when the flow was seen is written
// down, not when it expires. A TCP flow that was answered would have been remembered for hours: it is one that lasts.
func flowV1(key, value []byte) (_, converted []byte, err error) {
	var e translationV1
	if _, err := binary.Decode(value, binary.NativeEndian, &e); err != nil {
		return nil, nil, err
	}
	proto, flag := key[protoV1], func(bit uint8) uint8 { return min(e.State&bit, 1) }
	now := translationV2{
		Ends: e.Ends, Seen: e.Expires - timeoutV1(e.State, proto), Service: e.Service, Backend: e.Backend, Kind: e.Kind,
		Answered: flag(answeredV1), Fin: flag(finV1), FinBack: flag(finBackV1), Reset: flag(resetV1),
	}
	if proto == unix.IPPROTO_TCP {
		now.Lasting = now.Answered
	}
	converted, err = binary.Append(nil, binary.NativeEndian, now)
	return key, converted, err
}

// timeoutV1 is for how many seconds after its last packet a flow was remembered.
func timeoutV1(state, proto uint8) uint32 {
	answered := state&answeredV1 != 0
	switch {
	case proto == unix.IPPROTO_ICMP:
		return 30
	case proto == unix.IPPROTO_UDP && answered:
		return 120
	case proto == unix.IPPROTO_UDP:
		return 30
	case state&resetV1 != 0, state&(finV1|finBackV1) == finV1|finBackV1:
		return 10
	case answered:
		return 21600
	}
	return 60
}
