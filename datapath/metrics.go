package datapath

import (
	"cmp"
	"fmt"
	"slices"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/settings"
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
	bpf.PodLabDirectionDIR_FROM_POD:     FromPod,
	bpf.PodLabDirectionDIR_TO_POD:       ToPod,
	bpf.PodLabDirectionDIR_FROM_NETWORK: FromNetwork,
	bpf.PodLabDirectionDIR_TO_NETWORK:   ToNetwork,
}

var reasons = map[bpf.Reason]string{
	bpf.PodLabReasonREASON_TO_KERNEL:        "to-kernel",
	bpf.PodLabReasonREASON_DELIVERED:        "delivered",
	bpf.PodLabReasonREASON_ARP_REPLY:        "arp-reply",
	bpf.PodLabReasonREASON_ARP_IGNORED:      "arp-ignored",
	bpf.PodLabReasonREASON_EVENT_LOST:       eventLost,
	bpf.PodLabReasonREASON_FORWARDED:        "forwarded",
	bpf.PodLabReasonREASON_NO_BACKEND:       "no-backend",
	bpf.PodLabReasonREASON_NO_LOCAL_BACKEND: "no-local-backend",
	bpf.PodLabReasonREASON_SOURCE_RANGE:     "source-range",
	bpf.PodLabReasonREASON_NAT_PORTS:        "no-free-port",
	bpf.PodLabReasonREASON_NO_ROUTE:         "no-route",
	bpf.PodLabReasonREASON_TTL:              "ttl-exceeded",
	bpf.PodLabReasonREASON_REWRITE:          "not-rewritable",
	bpf.PodLabReasonREASON_BLACKHOLE:        "blackhole",
	bpf.PodLabReasonREASON_UNREACHABLE:      "unreachable",
	bpf.PodLabReasonREASON_PROHIBITED:       "prohibited",
	bpf.PodLabReasonREASON_TOO_BIG:          "too-big",
	bpf.PodLabReasonREASON_MASQUERADE:       "not-masqueradable",
	bpf.PodLabReasonREASON_NO_FLOW:          "no-flow",
	bpf.PodLabReasonREASON_TUNNELED:         "tunneled",
	bpf.PodLabReasonREASON_NO_NODE:          "no-node",
	bpf.PodLabReasonREASON_FORGED_SOURCE:    "forged-source",
	bpf.PodLabReasonREASON_FRAGMENT:         "no-first-fragment",
	bpf.PodLabReasonREASON_FOREIGN_ERROR:    "foreign-error",
	bpf.PodLabReasonREASON_LOOPBACK:         "loopback",
	bpf.PodLabReasonREASON_NO_WORK_AREA:     "no-work-area",
	bpf.PodLabReasonREASON_SOURCE_ADDR:      "source-address",
	bpf.PodLabReasonREASON_NO_ENDPOINT:      "no-endpoint",
	bpf.PodLabReasonREASON_PROTOCOL:         "unsupported-protocol",
	bpf.PodLabReasonREASON_MALFORMED:        "malformed",
}

// plainDrops are those that do not come of Services, routing or masquerading.
var plainDrops = []bpf.Reason{
	bpf.PodLabReasonREASON_SOURCE_ADDR, bpf.PodLabReasonREASON_NO_ENDPOINT, bpf.PodLabReasonREASON_PROTOCOL, bpf.PodLabReasonREASON_MALFORMED,
}

// passed are reasons for which a packet is not dropped, ofRoutes those for which the stack gets a pod's packet, to
// answer as it drops it: as in bpf/lib/drop.h.
var (
	passed = []bpf.Reason{
		bpf.PodLabReasonREASON_NONE, bpf.PodLabReasonREASON_TO_KERNEL, bpf.PodLabReasonREASON_DELIVERED, bpf.PodLabReasonREASON_ARP_REPLY,
		bpf.PodLabReasonREASON_ARP_IGNORED, bpf.PodLabReasonREASON_EVENT_LOST, bpf.PodLabReasonREASON_FORWARDED,
		bpf.PodLabReasonREASON_TUNNELED,
	}
	ofRoutes = []bpf.Reason{
		bpf.PodLabReasonREASON_NO_ROUTE, bpf.PodLabReasonREASON_UNREACHABLE, bpf.PodLabReasonREASON_PROHIBITED, bpf.PodLabReasonREASON_TOO_BIG,
	}
)

// isDrop says whether a program drops a packet for a reason.
func isDrop(r bpf.Reason, dir bpf.Direction) bool {
	return !slices.Contains(passed, r) && (dir != bpf.PodLabDirectionDIR_FROM_POD || !slices.Contains(ofRoutes, r))
}

// counts says whether the node's programs can have a reason to drop.
func (c Config) counts(dir bpf.Direction, reason bpf.Reason) bool {
	byTunnel := c.tunnelDevice() != "" && dir == bpf.PodLabDirectionDIR_FROM_NETWORK
	switch {
	case reason == bpf.PodLabReasonREASON_NO_NODE, reason == bpf.PodLabReasonREASON_FORGED_SOURCE:
		return byTunnel
	case c.Mode() != settings.ModeKubeProxy:
		return true
	}
	return (byTunnel || dir <= bpf.PodLabDirectionDIR_TO_POD) && slices.Contains(plainDrops, reason)
}

// Metrics lists the counters that are not zero, and every reason to drop that the node's programs know, sorted by
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
			if m.Packets == 0 && (!isDrop(reason, dir) || !d.cfg.counts(dir, reason)) {
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
