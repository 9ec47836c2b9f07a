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

// A flow whose place another takes goes on in one of the places behind, with what was known of it.
func TestObservedFlowsMoveOn(t *testing.T) {
	m, ring := observer(t)
	onOneCPU(m, func() {
		m.datagram(1000)
		flow, at := m.onlyFlow()
		const first = 64
		if at >= first {
			t.Fatalf("a flow begins in place %d", at)
		}
		// So many flows that each of the places was taken from the first one.
		for sport := range uint16(10 * first) {
			m.datagram(2000 + sport)
		}
		eventsOf(t, ring)
		m.datagram(1000)
		if told := eventsOf(t, ring); len(told) != 0 {
			t.Errorf("of a flow that moved on is told %+v", told)
		}
		found := 0
		for place, o := range m.observed() {
			if o.Key != flow.Key {
				continue
			}
			found++
			if place < first || o.Lo.Packets+o.Hi.Packets != 2 {
				t.Errorf("in place %d it has %d packets, want 2", place, o.Lo.Packets+o.Hi.Packets)
			}
		}
		if found != 1 || len(m.observed()) != 10*first+1 {
			t.Errorf("the flow is in %d places, and there are %d flows, want 1 and %d", found, len(m.observed()), 10*first+1)
		}
		m.datagram(1000) // by the remembered decision
		for _, o := range m.observed() {
			if o.Key == flow.Key && o.Lo.Packets+o.Hi.Packets != 3 {
				t.Errorf("of the decision's flow %d packets were counted, want 3", o.Lo.Packets+o.Hi.Packets)
			}
		}
	})
}

// onlyFlow is the one flow that there is, and its place.
func (m *model) onlyFlow() (flow bpf.Observed, at uint32) {
	m.t.Helper()
	flows := m.observed()
	if len(flows) != 1 {
		m.t.Fatalf("there are %d flows, want 1", len(flows))
	}
	for place, o := range flows {
		flow, at = o, place
	}
	return flow, at
}

// Who the ends of a flow are is asked for at its first event, and again after an interval; one that is not known yet, at every event.
func TestObservedFlowsRememberIdentities(t *testing.T) {
	m, ring := observer(t)
	onOneCPU(m, func() {
		next := func(when string, src, dst uint32) {
			t.Helper()
			m.datagram(1000)
			if told := eventsOf(t, ring); len(told) != 1 || told[0].SrcIdentity != src || told[0].DstIdentity != dst {
				t.Errorf("%s is told %+v, want identities %d and %d", when, told, src, dst)
			}
		}
		// due has the next packet be told of: as the flow's first answer, or after an interval.
		due := func(change func(*bpf.Observed)) {
			t.Helper()
			m.must(m.d.maps.newGeneration())
			for place, o := range m.observed() {
				change(&o)
				m.must(m.d.maps.observed.Put(place, o))
			}
		}
		answer := func(o *bpf.Observed) { o.LoOpened, o.Replied = bpf.PortOf(o.Key.HiPort) == 1000, false }
		late := func(o *bpf.Observed) { o.Told -= uint32(10 * time.Second >> 26) } // OBSERVED_UNIT
		m.must(m.d.SetIdentity(m.local[0], 300))
		m.must(m.d.SetIdentity(m.local[1], 301))
		next("at first", 300, 301)
		m.must(m.d.SetIdentity(m.local[1], 302))
		due(answer)
		next("soon after a change", 300, 301)
		due(late)
		next("after an interval", 300, 302)
		due(answer)
		next("soon after that", 300, 302)
		m.must(m.d.SetIdentity(m.local[1], 0))
		due(late)
		next("where it is not known", 300, 5)
		m.must(m.d.SetIdentity(m.local[1], 303))
		due(answer)
		next("once it is known", 300, 303)
	})
}
