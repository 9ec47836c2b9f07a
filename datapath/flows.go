package datapath

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/api"
)

// Flows lists the translated flows by how they are opened (lab_ct), sorted.
func (v *Services) Flows(_ context.Context) ([]api.Flow, error) {
	if err := v.check(); err != nil {
		return nil, err
	}
	return v.flows(v.d.maps.services.ct)
}

// Translations lists them by how their answers come (lab_nat), sorted.
func (v *Services) Translations(_ context.Context) ([]api.Flow, error) {
	if err := v.check(); err != nil {
		return nil, err
	}
	return v.flows(v.d.maps.services.nat)
}

func (v *Services) flows(m *ebpf.Map) ([]api.Flow, error) {
	names, now := v.names(), monotonicSeconds()
	list := []api.Flow{}
	err := eachBatch(m, func(t bpf.Tuple, e bpf.FlowEntry) {
		list = append(list, api.Flow{
			Protocol: lb.ProtocolName(t.Proto),
			Src:      bpf.AddrPortOf(t.Src, t.Sport),
			Dst:      bpf.AddrPortOf(t.Dst, t.Dport),
			NewSrc:   bpf.AddrPortOf(e.To.Src, e.To.Sport),
			NewDst:   bpf.AddrPortOf(e.To.Dst, e.To.Dport),
			Service:  names[e.Flow.Service],
			Kind:     kindName(e.Flow.Kind),
			State:    stateName(e.Flow),
			Expires:  time.Duration(timeLeft(e.Flow, t.Proto, now)) * time.Second,
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list flows: %w", err)
	}
	slices.SortFunc(list, func(a, b api.Flow) int {
		return cmp.Or(a.Src.Compare(b.Src), a.Dst.Compare(b.Dst), cmp.Compare(a.Protocol, b.Protocol))
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

func stateName(f bpf.Flow) string {
	switch {
	case f.Reset != 0:
		return "reset"
	case isClosed(f):
		return "closing"
	case f.Answered != 0:
		return "answered"
	}
	return "opening"
}

// isClosed, timeoutOf and timeLeft are is_closed, timeout_of and time_left of bpf/lib/ct.h.
func isClosed(f bpf.Flow) bool { return f.Reset != 0 || f.Fin != 0 && f.FinBack != 0 }

func timeoutOf(f bpf.Flow, proto uint8) bpf.Timeout {
	answered := f.Answered != 0
	switch {
	case proto == unix.IPPROTO_ICMP:
		return bpf.PodLabTimeoutLAB_TIMEOUT_ECHO
	case proto == unix.IPPROTO_UDP && answered:
		return bpf.PodLabTimeoutLAB_TIMEOUT_UDP
	case proto == unix.IPPROTO_UDP:
		return bpf.PodLabTimeoutLAB_TIMEOUT_UDP_OPENING
	case isClosed(f):
		return bpf.PodLabTimeoutLAB_TIMEOUT_TCP_CLOSING
	case f.Lasting != 0:
		return bpf.PodLabTimeoutLAB_TIMEOUT_TCP
	}
	return bpf.PodLabTimeoutLAB_TIMEOUT_TCP_OPENING
}

// timeLeft is in how many seconds a flow is overdue; negative when it is.
func timeLeft(f bpf.Flow, proto uint8, now uint32) int32 {
	return int32(f.Seen + uint32(timeoutOf(f, proto)) - now)
}

// monotonicSeconds is the programs' clock.
func monotonicSeconds() uint32 { return uint32(monotonic() / uint64(time.Second)) }
