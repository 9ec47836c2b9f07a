package datapath

import (
	"context"
	"errors"
	"iter"
	"net"
	"net/netip"
	"time"
)

// Direction says which program saw a packet.
type Direction string

const (
	// FromPod is a packet leaving a pod, at the host-side veth.
	FromPod Direction = "from-pod"
	// ToPod is a packet of the node's stack going to a local pod, at lab_host.
	ToPod Direction = "to-pod"
)

// Event is what a program reports about one packet.
type Event struct {
	Time time.Time
	// Drop says that the packet was dropped.
	Drop bool
	// Reason is the name of what happened: "to-kernel", "to-pod", "arp-reply", or why it was dropped.
	Reason    string
	Direction Direction
	// IfIndex and IfName are the device whose program it was; the name may be empty.
	IfIndex int
	IfName  string
	// Src and Dst have port 0 when the packet has none (fragments, ICMP, ARP); for ARP they are the
	// sender's and target's protocol addresses. Zero when the packet is neither IPv4 nor ARP.
	Src, Dst netip.AddrPort
	// EtherType and Proto as on the wire; Proto is 0 for what is not IPv4.
	EtherType uint16
	Proto     uint8
	// TTL as the program saw it, TCPFlags as the header has them.
	TTL, TCPFlags uint8
	// ICMPType is meaningful when Proto is 1.
	ICMPType uint8
	// SrcMAC and DstMAC as the program saw them.
	SrcMAC, DstMAC net.HardwareAddr
	// Length of the packet in bytes, with its Ethernet header.
	Length int
	// SrcEndpoint and DstEndpoint are the IDs of local endpoints, 0 when there is none.
	SrcEndpoint, DstEndpoint uint32
}

// Events yields events from now on, until ctx is done or the consumer stops. Any number of consumers
// may listen at once; programs write events whether or not somebody does, and overwrite none: what does
// not fit the ring is counted as "event-lost" in [Datapath.Metrics]. An error ends the sequence.
func (d *Datapath) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) { yield(Event{}, errors.ErrUnsupported) }
}

// Metric counts packets and bytes since the maps were made, summed over CPUs.
type Metric struct {
	Reason         string
	Direction      Direction
	Drop           bool
	Packets, Bytes uint64
}

// Metrics lists the counters that are not zero, and every drop reason, sorted by reason and direction.
func (d *Datapath) Metrics() ([]Metric, error) { return nil, errors.ErrUnsupported }

// Status is the data plane as read back from the kernel.
type Status struct {
	Mode Mode `json:"mode"`
	// Attach is how programs are attached: "tcx".
	Attach string `json:"attach"`
	// HostRouting is "Legacy": packets to other nodes pass the node's IP stack.
	HostRouting        string           `json:"hostRouting"`
	Router             netip.Addr       `json:"router"`
	MTU                int              `json:"mtu"`
	MonitorAggregation Aggregation      `json:"monitorAggregation"`
	Devices            []DeviceStatus   `json:"devices"`
	Programs           []ProgramStatus  `json:"programs"`
	Maps               []MapStatus      `json:"maps"`
	Routes             []RouteStatus    `json:"routes"`
	Masquerade         MasqueradeStatus `json:"masquerade"`
	HostPorts          int              `json:"hostPorts"`
	Sysctls            []SysctlStatus   `json:"sysctls"`
}

// DeviceStatus is a NIC or a device of ours.
type DeviceStatus struct {
	Name  string         `json:"name"`
	Index int            `json:"index"`
	MTU   int            `json:"mtu"`
	Up    bool           `json:"up"`
	Addrs []netip.Prefix `json:"addrs"`
}

// ProgramStatus is one loaded program and the devices whose pinned links carry it, sorted.
type ProgramStatus struct {
	Name       string   `json:"name"`
	ID         uint32   `json:"id"`
	Tag        string   `json:"tag"`
	AttachedTo []string `json:"attachedTo"`
}

// MapStatus is one pinned map. Entries is -1 for kinds that have none to count.
type MapStatus struct {
	Name        string `json:"name"`
	ID          uint32 `json:"id"`
	Entries     int    `json:"entries"`
	MaxEntries  int    `json:"maxEntries"`
	MemoryBytes uint64 `json:"memoryBytes"`
}

// RouteStatus is one route of ours.
type RouteStatus struct {
	Dst    netip.Prefix `json:"dst"`
	Via    netip.Addr   `json:"via"`
	Device string       `json:"device"`
}

// MasqueradeStatus is what the node's iptables have of ours.
type MasqueradeStatus struct {
	Enabled bool `json:"enabled"`
	// Kind is "iptables" or empty.
	Kind string `json:"kind"`
	// Backend is iptables' own word for its variant: "nf_tables" or "legacy".
	Backend    string       `json:"backend"`
	NativeCIDR netip.Prefix `json:"nativeCIDR"`
}

// SysctlStatus is one sysctl that this package keeps, with the value that was found before.
type SysctlStatus struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Found string `json:"found"`
}

// Status reads the data plane back from kernel objects. Parts that cannot be read are reported in the
// error, joined; the rest is filled in all the same.
func (d *Datapath) Status(ctx context.Context) (Status, error) {
	return Status{}, errors.ErrUnsupported
}
