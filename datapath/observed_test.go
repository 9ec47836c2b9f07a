package datapath

import (
	stdmaps "maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/settings"
)

// observer is a model whose programs tell of flows, and somebody reads.
func observer(t *testing.T) (*model, *ringbuf.Reader) {
	m := newModelWith(t, func(c *Config) { inBPF(c); c.BPF.MonitorAggregation = settings.AggregationMedium })
	ring, err := ringbuf.NewReader(m.d.maps.events)
	m.must(err)
	t.Cleanup(func() { ring.Close() })
	m.must(m.d.announce(time.Minute))
	return m, ring
}

// datagram runs one of the first pod's to the second through the pods' program.
func (m *model) datagram(sport uint16) {
	m.t.Helper()
	frame := packet(17, netip.AddrPortFrom(m.local[0], sport), netip.AddrPortFrom(m.local[1], 53), 0)
	_, err := m.d.progs.fromPod.Run(&ebpf.RunOptions{Data: frame, Context: m.testRun(m.ifindex(m.local[0]), frame).Context})
	m.must(err)
}

// observed are the flows that events tell of, by their places.
func (m *model) observed() map[uint32]bpf.Observed {
	m.t.Helper()
	flows := map[uint32]bpf.Observed{}
	m.must(eachBatch(m.d.maps.observed, func(place uint32, o bpf.Observed) {
		if o.Began != 0 {
			flows[place] = o
		}
	}))
	return flows
}

// A packet belongs to the flow also when another CPU, which had the time later, has just seen one of it.
func TestObservedFlowsAreSeenByAllCPUs(t *testing.T) {
	m, ring := observer(t)
	onOneCPU(m, func() {
		m.datagram(1000)
		if told := eventsOf(t, ring); len(told) != 1 || told[0].Occasion != bpf.PodLabOccasionOCCASION_START {
			t.Fatalf("at first is told %+v", told)
		}
		before := m.observed()
		for place, o := range before {
			o.Lo.Seen, o.Told = o.Lo.Seen+2, o.Told+2
			m.must(m.d.maps.observed.Put(place, o))
		}
		m.datagram(1000)
		if told := eventsOf(t, ring); len(told) != 0 {
			t.Errorf("then is told %+v", told)
		}
		for place, o := range m.observed() {
			if was := before[place]; o.Lo.Packets != was.Lo.Packets+1 || o.Began != was.Began || o.Lo.By != was.Lo.By {
				t.Errorf("the flow was %+v, and is %+v", was, o)
			}
		}
	})
}

// What events know of an address's flows is not told of the pod that has it next.
func TestObservedFlowsEndWithTheirAddress(t *testing.T) {
	m, _ := observer(t)
	onOneCPU(m, func() {
		m.datagram(1000)
		const other = uint32(7)
		flow := bpf.Observed{Began: 1}
		flow.Key.Lo, flow.Key.Hi, flow.Key.Proto = bpf.IPOf(m.local[1]), bpf.IPOf(far.Addr()), 6
		m.must(m.d.maps.observed.Put(other, flow))
		if n := len(m.observed()); n != 2 {
			t.Fatalf("there are %d flows, want 2", n)
		}
		m.must(m.d.forgetAddrs(map[bpf.IP]resting{bpf.IPOf(m.local[0]): {}}))
		if _, ok := m.observed()[other]; !ok || len(m.observed()) != 1 {
			t.Errorf("there are %+v", m.observed())
		}
	})
}

// A new flow takes the place of one that is over, else of the one that was silent the longest, and no other.
func TestObservedFlowsTakePlaces(t *testing.T) {
	m, _ := observer(t)
	onOneCPU(m, func() {
		m.datagram(1000)
		all := m.observed()
		place := slices.Collect(stdmaps.Keys(all))[0]
		flow, first := all[place], place/4*4
		for name, set := range map[string]func(*bpf.Observed){
			"that is over":                func(o *bpf.Observed) { o.Over = true },
			"that was silent the longest": func(o *bpf.Observed) { o.Lo.Seen -= 5 },
		} {
			for i := range uint32(4) {
				other := flow
				other.Key.LoPort = uint16(i) + 1 //nolint:gosec // below 4
				other.Lo.Seen -= 1
				other.Lo.Began++ // or the remembered decision took it for the flow
				if i == 2 {
					set(&other)
				}
				m.must(m.d.maps.observed.Put(first+i, other))
			}
			m.datagram(1000)
			for place, o := range m.observed() {
				if (o.Key == flow.Key) != (place == first+2) {
					t.Errorf("beside one %s, in place %d there is %+v", name, place-first, o.Key)
				}
			}
		}
	})
}
