package datapath

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
)

// FlowStatus is one translated direction of a flow: packets from Src to Dst become packets from NewSrc to
// NewDst.
type FlowStatus struct {
	Proto  string         `json:"protocol"`
	Src    netip.AddrPort `json:"src"`
	Dst    netip.AddrPort `json:"dst"`
	NewSrc netip.AddrPort `json:"newSrc"`
	NewDst netip.AddrPort `json:"newDst"`
	// Service is its name; empty when this process has not named it yet, or the flow has none.
	Service string `json:"service"`
	// Kind is "service", "masquerade" or "inbound": why the flow is remembered.
	Kind string `json:"kind"`
	// State is what has been seen: "opening", "answered", "closing", "reset".
	State string `json:"state"`
	// Expires is in how long the flow is forgotten unless more is seen of it; negative when it is due.
	Expires time.Duration `json:"expires"`
}

// Collected is what [Services.Collect] found and removed.
type Collected struct {
	// Flows and Translations are the entries left of lab_ct and lab_nat.
	Flows, Translations int
	// Room is how many each of the maps has room for.
	Room int
	// Expired entries were removed from either.
	Expired int
}

// Flows lists the translated flows by how they are opened (lab_ct), sorted.
func (v *Services) Flows(_ context.Context) ([]FlowStatus, error) {
	if err := v.check(); err != nil {
		return nil, err
	}
	return v.flows(v.d.maps.services.ct)
}

// Translations lists them by how their answers come (lab_nat), sorted.
func (v *Services) Translations(_ context.Context) ([]FlowStatus, error) {
	if err := v.check(); err != nil {
		return nil, err
	}
	return v.flows(v.d.maps.services.nat)
}

func (v *Services) flows(m *ebpf.Map) ([]FlowStatus, error) {
	names, now := v.names(), monotonicSeconds()
	var list []FlowStatus
	err := eachBatch(m, func(t bpf.Tuple, e bpf.Translation) {
		list = append(list, FlowStatus{
			Proto:   protocolName(t.Proto),
			Src:     addrPort(t.Src, t.Sport),
			Dst:     addrPort(t.Dst, t.Dport),
			NewSrc:  addrPort(e.Src, e.Sport),
			NewDst:  addrPort(e.Dst, e.Dport),
			Service: names[e.Service],
			Kind:    kindName(e.Kind),
			State:   stateName(e),
			Expires: time.Duration(timeLeft(e, t.Proto, now)) * time.Second,
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list flows: %w", err)
	}
	slices.SortFunc(list, func(a, b FlowStatus) int {
		return cmp.Or(a.Src.Compare(b.Src), a.Dst.Compare(b.Dst), cmp.Compare(a.Proto, b.Proto))
	})
	return list, nil
}

func kindName(k bpf.FlowKind) string {
	switch k {
	case bpf.PodCtKindCT_MASQUERADE:
		return "masquerade"
	case bpf.PodCtKindCT_INBOUND:
		return "inbound"
	}
	return "service"
}

func stateName(e bpf.Translation) string {
	switch {
	case e.Reset != 0:
		return "reset"
	case isClosed(e):
		return "closing"
	case e.Answered != 0:
		return "answered"
	}
	return "opening"
}

// isClosed, timeoutOf and timeLeft are is_closed, timeout_of and time_left of bpf/lib/ct.h.
func isClosed(e bpf.Translation) bool { return e.Reset != 0 || e.Fin != 0 && e.FinBack != 0 }

func timeoutOf(e bpf.Translation, proto uint8) bpf.Timeout {
	answered := e.Answered != 0
	switch {
	case proto == unix.IPPROTO_ICMP:
		return bpf.PodLabTimeoutLAB_TIMEOUT_ECHO
	case proto == unix.IPPROTO_UDP && answered:
		return bpf.PodLabTimeoutLAB_TIMEOUT_UDP
	case proto == unix.IPPROTO_UDP:
		return bpf.PodLabTimeoutLAB_TIMEOUT_UDP_OPENING
	case isClosed(e):
		return bpf.PodLabTimeoutLAB_TIMEOUT_TCP_CLOSING
	case answered:
		return bpf.PodLabTimeoutLAB_TIMEOUT_TCP
	}
	return bpf.PodLabTimeoutLAB_TIMEOUT_TCP_OPENING
}

// timeLeft is in how many seconds a flow is overdue; negative when it is.
func timeLeft(e bpf.Translation, proto uint8, now uint32) int32 {
	return int32(e.Seen + uint32(timeoutOf(e, proto)) - now)
}

// Collect removes flows that are over. It is to be called every ten seconds or so. Without it old flows
// make room only when new ones need it.
func (v *Services) Collect(_ context.Context) (c Collected, err error) {
	if err := v.check(); err != nil {
		return c, err
	}
	c.Room = v.d.cfg.Flows
	for m, left := range map[*ebpf.Map]*int{v.d.maps.services.ct: &c.Flows, v.d.maps.services.nat: &c.Translations} {
		expired, kept, err := collect(m, monotonicSeconds())
		if err != nil {
			return c, err
		}
		*left = kept
		c.Expired += expired
	}
	return c, nil
}

func collect(m *ebpf.Map, now uint32) (expired, kept int, err error) {
	var due []bpf.Tuple
	err = eachBatch(m, func(t bpf.Tuple, e bpf.Translation) {
		// Programs take an entry for dead from one second after; leave it to them for one more.
		if timeLeft(e, t.Proto, now) < -1 {
			due = append(due, t)
		} else {
			kept++
		}
	})
	if err != nil {
		return 0, 0, fmt.Errorf("collect flows: %w", err)
	}
	for _, t := range due {
		if err := forget(m, t); err != nil {
			return expired, kept, fmt.Errorf("collect flows: remove %s: %w", addrPort(t.Src, t.Sport), err)
		}
		expired++
	}
	return expired, kept, nil
}

// monotonicSeconds is the programs' clock.
func monotonicSeconds() uint32 { return uint32(monotonic() / uint64(time.Second)) }
