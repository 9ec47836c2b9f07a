package datapath

import (
	"encoding/binary"
	stdmaps "maps"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/ringbuf"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/api"
)

// spoofed runs a packet through the pods' program that is dropped, n times.
func (m *model) spoofed(n uint32) {
	m.t.Helper()
	frame := packet(6, netip.AddrPortFrom(m.local[1], 1), far, synFlag)
	opts := &ebpf.RunOptions{Data: frame, Context: m.testRun(m.ifindex(m.local[0]), frame).Context, Repeat: n}
	_, err := m.d.progs.fromPod.Run(opts)
	m.must(err)
}

// While nobody reads, drops are counted and nothing is written. Then records say what they are and where they are from.
func TestEventsAreWrittenForReadersOnly(t *testing.T) {
	m := router(t)
	ring, err := ringbuf.NewReader(m.d.maps.events)
	m.must(err)
	defer ring.Close()
	key := counter{bpf.PodLabDirectionDIR_FROM_POD, bpf.PodLabReasonREASON_SOURCE_ADDR}
	onOneCPU(m, func() {
		numbers := func() (sum uint64) {
			var perCPU []uint64
			m.must(m.d.maps.eventSeq.Lookup(uint32(0), &perCPU))
			for _, n := range perCPU {
				sum += n
			}
			return sum
		}
		for _, until := range []uint64{0, monotonic()} { // nobody has read, and who read was killed
			m.must(m.d.maps.eventUntil.Put(uint32(0), until))
			counted, number := m.allCounters()[key].Packets, numbers()
			m.spoofed(3)
			if events := eventsOf(t, ring); len(events) != 0 || numbers() != number {
				t.Errorf("nobody reads, and there are %d events", len(events))
			}
			if now := m.allCounters()[key].Packets; now != counted+3 {
				t.Errorf("%d drops are counted, want 3", now-counted)
			}
		}
		m.must(m.d.announce(time.Minute))
		number, before := numbers(), monotonic()
		m.spoofed(3)
		events := eventsOf(t, ring)
		if len(events) != 3 {
			t.Fatalf("%d events, want 3", len(events))
		}
		for i, e := range events {
			h := e.Head
			if h.Type != bpf.PodLabEventTypeEVENT_DROP || h.Version != bpf.PodLabEventVersionEVENT_VERSION || int(h.Length) != binary.Size(e.Event)+len(e.frame) ||
				h.First != h.Sequence || h.Cpu != events[0].Head.Cpu || h.Sequence != number+uint64(i)+1 || h.TimeNs < before || h.TimeNs > monotonic() {
				t.Errorf("event %d begins with %+v", i, h)
			}
		}
	})
}

// Who listens is told of every event, or that it is missing, and of which CPU: those that the ring had no room for, too,
// though no event comes after them.
func TestNoEventIsLostSilently(t *testing.T) {
	const flood = 100000
	m := router(t)
	l, err := m.d.listen(time.Second)
	m.must(err)
	defer m.d.unlisten(l)
	of, sent := map[int]int{}, map[int]int{}
	take := func(until func() bool) {
		t.Helper()
		for deadline := time.After(20 * time.Second); !until(); {
			select {
			case e := <-l.events:
				if (e.Type == api.EventLost) != (e.Missed > 0) || e.Type != api.EventLost && e.Sequence == 0 {
					t.Fatalf("an event is %+v", e)
				}
				if e.Type == api.EventLost {
					of[e.CPU] += e.Missed
				} else {
					of[e.CPU]++
				}
			case <-deadline:
				t.Fatalf("of %v events %v were seen or missed", sent, of)
			}
		}
	}
	for _, cpu := range cpus(m) {
		onCPU(m, cpu, func() { m.spoofed(1) }) // or the reader might not have begun to wait
		onCPU(m, cpu, func() { m.spoofed(flood) })
		sent[cpu] = flood + 1
	}
	if m.allCounters()[counter{bpf.PodLabDirectionDIR_FROM_POD, bpf.PodLabReasonREASON_EVENT_LOST}].Packets == 0 {
		t.Fatal("the ring had room for all: this says nothing")
	}
	take(func() bool { return stdmaps.Equal(of, sent) })
	// And no more than there were.
	for _, cpu := range cpus(m) {
		onCPU(m, cpu, func() { m.spoofed(1) })
		sent[cpu]++
	}
	take(func() bool { return stdmaps.Equal(of, sent) })
}

// Who joins when the ring has no room misses nothing: what was lost before it joined is not its own.
func TestWhoJoinsLateHasMissedNothing(t *testing.T) {
	m := router(t)
	patient, err := m.d.listen(time.Minute)
	m.must(err)
	defer m.d.unlisten(patient)
	onOneCPU(m, func() {
		m.spoofed(1) // or the reader might not have begun to wait
		m.spoofed(30000)
		late, err := m.d.listen(Soon)
		m.must(err)
		defer m.d.unlisten(late)
		m.spoofed(1)
		// The ring may be full still, when this one is lost.
		for range 100 {
			select {
			case e := <-late.events:
				if e.Missed > 1 {
					t.Errorf("who joined before the last of 30,000 events has missed %d", e.Missed)
				}
				return
			case <-time.After(Soon):
				m.spoofed(1)
			}
		}
		t.Fatal("no event arrives")
	})
}

// noEvent writes a record that is none of an event's into the ring.
func (m *model) noEvent() {
	m.t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, License: "GPL", Instructions: asm.Instructions{
		asm.StoreImm(asm.R10, -8, 0, asm.Word), asm.StoreImm(asm.R10, -4, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, m.d.maps.events.FD()),
		asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, -8),
		asm.Mov.Imm(asm.R3, 8), asm.Mov.Imm(asm.R4, 0),
		asm.FnRingbufOutput.Call(),
		asm.Mov.Imm(asm.R0, 0), asm.Return(),
	}})
	m.must(err)
	defer prog.Close()
	_, err = prog.Run(&ebpf.RunOptions{Data: make([]byte, 64)})
	m.must(err)
}

// Who listens once the reader has failed gets a new one, though others have not gone yet.
func TestListenersComeAfterAFailure(t *testing.T) {
	m := router(t)
	first, err := m.d.listen(Soon)
	m.must(err)
	m.noEvent()
	<-first.done
	second, err := m.d.listen(Soon)
	m.must(err)
	defer m.d.unlisten(second)
	m.d.unlisten(first)
	m.spoofed(1)
	select {
	case <-second.events:
	case <-second.done:
		t.Errorf("listening ends with %v", second.err)
	case <-time.After(10 * time.Second):
		t.Error("no event arrives")
	}
}

func TestGaps(t *testing.T) {
	g := gaps{{base: 10, highest: 10}, {}}
	for i, step := range []struct {
		cpu      uint32
		sequence uint64
		want     int
		older    bool
	}{
		{0, 9, 0, true}, {0, 10, 0, true}, // from before
		{0, 11, 0, false}, {0, 12, 0, false}, // in a row
		{1, 1, 0, false},                     // another CPU's
		{0, 15, 2, false},                    // 13 and 14 are missing
		{0, 14, 0, false},                    // it comes late
		{0, 16, 0, false}, {0, 18, 0, false}, // 17, for which 14 had been missing
		{0, 20, 1, false}, {1, 3, 1, false},
		{7, 1, 0, true}, // no CPU of this machine
	} {
		if got, older := g.before(bpf.EventHeader{Cpu: step.cpu, Sequence: step.sequence}); got != step.want || older != step.older {
			t.Errorf("step %d: %d are missing, older %v; want %d, %v", i, got, older, step.want, step.older)
		}
	}
}
