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
	"wirelab.dev/wirelab/datapath/lb"
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
			Proto:   lb.ProtocolName(t.Proto),
			Src:     bpf.AddrPortOf(t.Src, t.Sport),
			Dst:     bpf.AddrPortOf(t.Dst, t.Dport),
			NewSrc:  bpf.AddrPortOf(e.Src, e.Sport),
			NewDst:  bpf.AddrPortOf(e.Dst, e.Dport),
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
	case e.Lasting != 0:
		return bpf.PodLabTimeoutLAB_TIMEOUT_TCP
	}
	return bpf.PodLabTimeoutLAB_TIMEOUT_TCP_OPENING
}

// timeLeft is in how many seconds a flow is overdue; negative when it is.
func timeLeft(e bpf.Translation, proto uint8, now uint32) int32 {
	return int32(e.Seen + uint32(timeoutOf(e, proto)) - now)
}

// monotonicSeconds is the programs' clock.
func monotonicSeconds() uint32 { return uint32(monotonic() / uint64(time.Second)) }
