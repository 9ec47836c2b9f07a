package datapath

import (
	"cmp"
	"fmt"
	"slices"

	"wirelab.dev/wirelab/bpf"
)

// Direction says which program saw a packet.
type Direction string

const (
	// FromPod is a packet leaving a pod, at the host-side veth.
	FromPod Direction = "from-pod"
	// ToPod is a packet of the node's stack going to a local pod, at lab_host.
	ToPod Direction = "to-pod"
	// FromNetwork and ToNetwork are packets at a NIC, counted when they are translated, routed or dropped.
	FromNetwork Direction = "from-network"
	ToNetwork   Direction = "to-network"
)

// Metric counts packets and bytes since the maps were made, summed over CPUs.
type Metric struct {
	// Reason is what became of the packets, see [Event].
	Reason         string
	Direction      Direction
	Drop           bool
	Packets, Bytes uint64
}

// eventLost counts events, not packets: those that found the ring full.
const eventLost = "event-lost"

var directions = map[bpf.Direction]Direction{
	bpf.PodLabDirectionLAB_FROM_POD:       FromPod,
	bpf.PodLabDirectionLAB_DIR_TO_POD:     ToPod,
	bpf.PodLabDirectionLAB_FROM_NETWORK:   FromNetwork,
	bpf.PodLabDirectionLAB_DIR_TO_NETWORK: ToNetwork,
}

var reasons = map[bpf.Reason]string{
	bpf.PodLabReasonLAB_TO_KERNEL:             "to-kernel",
	bpf.PodLabReasonLAB_TO_POD:                "to-pod",
	bpf.PodLabReasonLAB_ARP_REPLY:             "arp-reply",
	bpf.PodLabReasonLAB_ARP_IGNORED:           "arp-ignored",
	bpf.PodLabReasonLAB_EVENT_LOST:            eventLost,
	bpf.PodLabReasonLAB_TO_NETWORK:            "to-network",
	bpf.PodLabReasonLAB_DROP_NO_BACKEND:       "no-backend",
	bpf.PodLabReasonLAB_DROP_NO_LOCAL_BACKEND: "no-local-backend",
	bpf.PodLabReasonLAB_DROP_SOURCE_RANGE:     "source-range",
	bpf.PodLabReasonLAB_DROP_NAT_PORTS:        "no-free-port",
	bpf.PodLabReasonLAB_DROP_NO_ROUTE:         "no-route",
	bpf.PodLabReasonLAB_DROP_TTL:              "ttl-exceeded",
	bpf.PodLabReasonLAB_DROP_REWRITE:          "not-rewritable",
	bpf.PodLabReasonLAB_DROP_BLACKHOLE:        "blackhole",
	bpf.PodLabReasonLAB_DROP_UNREACHABLE:      "unreachable",
	bpf.PodLabReasonLAB_DROP_PROHIBITED:       "prohibited",
	bpf.PodLabReasonLAB_DROP_TOO_BIG:          "too-big",
	bpf.PodLabReasonLAB_DROP_MASQUERADE:       "not-masqueradable",
	bpf.PodLabReasonLAB_DROP_NO_FLOW:          "no-flow",
	bpf.PodLabReasonLAB_DROP_FRAGMENT:         "no-first-fragment",
	bpf.PodLabReasonLAB_DROP_FOREIGN_ERROR:    "foreign-error",
	bpf.PodLabReasonLAB_DROP_LOOPBACK:         "loopback",
	bpf.PodLabReasonLAB_DROP_SOURCE_ADDR:      "source-address",
	bpf.PodLabReasonLAB_DROP_NO_ENDPOINT:      "no-endpoint",
	bpf.PodLabReasonLAB_DROP_PROTOCOL:         "unsupported-protocol",
	bpf.PodLabReasonLAB_DROP_MALFORMED:        "malformed",
}

// stackAnswers are reasons for which the stack gets a pod's packet, to answer as it drops it.
var stackAnswers = []bpf.Reason{
	bpf.PodLabReasonLAB_DROP_NO_ROUTE, bpf.PodLabReasonLAB_DROP_UNREACHABLE, bpf.PodLabReasonLAB_DROP_PROHIBITED, bpf.PodLabReasonLAB_DROP_TOO_BIG,
}

// isDrop says whether a program drops a packet for a reason, as is_drop does in bpf/lib/drop.h.
func isDrop(r bpf.Reason, dir bpf.Direction) bool {
	return r >= bpf.PodLabReasonLAB_DROP && (dir != bpf.PodLabDirectionLAB_FROM_POD || !slices.Contains(stackAnswers, r))
}

// counts says whether a mode's programs can have a reason to drop.
func (m Mode) counts(dir bpf.Direction, reason bpf.Reason) bool {
	return m.services() || (dir <= bpf.PodLabDirectionLAB_DIR_TO_POD && reason < bpf.PodLabReasonLAB_DROP_NO_BACKEND)
}

// Metrics lists the counters that are not zero, and every reason to drop that the mode knows, sorted by
// reason and direction.
func (d *Datapath) Metrics() ([]Metric, error) {
	perCPU, err := d.metrics()
	if err != nil {
		return nil, err
	}
	var list []Metric
	for dir, dirName := range directions {
		for reason, name := range reasons {
			m := sum(perCPU, dir, reason)
			if m.Packets == 0 && (!isDrop(reason, dir) || !d.cfg.Mode.counts(dir, reason)) {
				continue
			}
			list = append(list, Metric{Reason: name, Direction: dirName, Drop: isDrop(reason, dir), Packets: m.Packets, Bytes: m.Bytes})
		}
	}
	slices.SortFunc(list, func(a, b Metric) int {
		return cmp.Or(cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Direction, b.Direction))
	})
	return list, nil
}

// metrics reads the counters of each CPU.
func (d *Datapath) metrics() (perCPU []bpf.Metrics, err error) {
	if err := d.maps.metrics.Lookup(uint32(0), &perCPU); err != nil {
		return nil, fmt.Errorf("read the packet counters: %w", err)
	}
	return perCPU, nil
}

// sum adds up one counter over the CPUs.
func sum(perCPU []bpf.Metrics, dir bpf.Direction, reason bpf.Reason) (sum bpf.Metric) {
	for i := range perCPU {
		m := &perCPU[i].Of[dir][reason]
		sum.Packets += m.Packets
		sum.Bytes += m.Bytes
	}
	return sum
}
