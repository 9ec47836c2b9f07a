package datapath

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/api"
)

// flowAt is a flow of the model with one end outside: how its packets are sent, and how they come back.
type flowAt struct {
	m          *model
	proto      layers.IPProtocol
	client, to end
	// out and in are where its packets and their answers come by.
	out, in stage
	as      end // what its packets have left as
}

// masqueradedFlow is one from the model's first pod to the outside.
func masqueradedFlow(m *model, proto layers.IPProtocol, port uint16) *flowAt {
	return &flowAt{m: m, proto: proto, client: netip.AddrPortFrom(m.local[0], port), to: far, out: m.out(), in: stage{m.d.progs.services.fromNetwork, m.nic()}}
}

// nodePortFlow is one from outside to a NodePort whose backend is elsewhere.
func nodePortFlow(m *model, proto layers.IPProtocol, port uint16) *flowAt {
	at := stage{m.d.progs.services.fromNetwork, m.nic()}
	return &flowAt{m: m, proto: proto, client: netip.AddrPortFrom(m.outside[0], port), to: netip.AddrPortFrom(m.ns.Addr, 30000), out: at, in: at}
}

func (f *flowAt) backend() end {
	if f.to.Addr() == f.m.ns.Addr {
		return remote().Addr
	}
	return f.to
}

func (f *flowAt) send(flags uint8) (verdict uint32) {
	verdict, frame := f.m.runOn(f.out.prog, f.out.ifindex, packet(f.proto, f.client, f.to, flags))
	if verdict != actShot {
		f.as = f.m.parse(frame).src
	}
	return verdict
}

// answer is whether an answer comes back to the client.
func (f *flowAt) answer(flags uint8) bool {
	verdict, frame := f.m.runOn(f.in.prog, f.in.ifindex, packet(f.proto, f.backend(), f.as, flags))
	return verdict == actRedirect && f.m.parse(frame).dst == f.client
}

// states are the flow's in both maps.
func (f *flowAt) states() []string {
	f.m.t.Helper()
	var list []string
	for _, of := range []func() ([]api.Flow, error){
		func() ([]api.Flow, error) { return f.m.d.Services().Flows(f.m.t.Context()) },
		func() ([]api.Flow, error) { return f.m.d.Services().Translations(f.m.t.Context()) },
	} {
		flows, err := of()
		f.m.must(err)
		for _, s := range flows {
			if s.Src == f.client || s.NewDst == f.client {
				list = append(list, fmt.Sprint(s.State, " ", s.Expires.Round(5*time.Second)))
			}
		}
	}
	return list
}

func (f *flowAt) expect(when string, state string, expires time.Duration) {
	f.m.t.Helper()
	want := fmt.Sprint(state, " ", expires)
	if got := f.states(); !slices.Equal(got, []string{want, want}) {
		f.m.t.Errorf("%s the flow is %q in the maps, want %q", when, got, want)
	}
}

// flowKinds are those that get a port of the node's.
var flowKinds = map[string]func(*model, layers.IPProtocol, uint16) *flowAt{"masqueraded": masqueradedFlow, "to a NodePort": nodePortFlow}

// routerWithNodePort is a model of BPF routing that also has a Service with one backend, on another node.
func routerWithNodePort(t *testing.T) *model {
	m := router(t)
	m.services = m.services[:1]
	m.services[0].Backends = []lb.Backend{remote()}
	m.apply()
	return m
}

// A reset may be one that no end accepts. What comes after it, from either side, takes it back, also when the
// flow's packets take the short way.
func TestLaterSegmentsTakeAResetBack(t *testing.T) {
	for name, kind := range flowKinds {
		t.Run(name, func(t *testing.T) {
			f := kind(routerWithNodePort(t), layers.IPProtocolTCP, 40000)
			f.send(synFlag)
			f.answer(synFlag | ackFlag)
			for range 3 { // until it is known
				f.send(ackFlag)
				f.answer(ackFlag)
			}
			f.expect("established", "answered", 6*time.Hour)
			for name, reset := range map[string]func(){"its opener": func() { f.send(rstFlag) }, "the other side": func() { f.answer(rstFlag) }} {
				for after, later := range map[string]func(){"its opener": func() { f.send(ackFlag) }, "the other side": func() { f.answer(ackFlag) }} {
					reset()
					f.expect("after a reset from "+name, "reset", 75*time.Second)
					later()
					f.expect("after a reset from "+name+" and a segment from "+after, "answered", 6*time.Hour)
				}
			}
		})
	}
}

// other enters another flow that has the port for its answers.
func (f *flowAt) other(port uint16, state bpf.Flow, ago uint32) (own bpf.Tuple) {
	f.m.t.Helper()
	client := netip.AddrPortFrom(f.m.local[1], 41000)
	to := f.backend()
	key := bpf.Tuple{Src: bpf.IPOf(to.Addr()), Dst: bpf.IPOf(f.m.ns.Addr), Sport: bpf.PortOf(to.Port()), Dport: bpf.PortOf(port), Proto: unix.IPPROTO_TCP, Direction: bpf.PodTupleDirectionTUPLE_BACK}
	state.Kind, state.Answered, state.Lasting, state.Seen = bpf.PodCtKindCT_MASQUERADE, 1, 1, monotonicSeconds()-ago
	e := bpf.FlowEntry{Flow: state, To: bpf.Translation{Src: key.Src, Sport: key.Sport, Dst: bpf.IPOf(client.Addr()), Dport: bpf.PortOf(client.Port())}}
	f.m.must(f.m.d.maps.services.nat.Put(key, e))
	own = bpf.Tuple{Src: e.To.Dst, Dst: e.To.Src, Sport: e.To.Dport, Dport: e.To.Sport, Proto: unix.IPPROTO_TCP, Flags: bpf.PodTupleFlagTUPLE_MASQUERADE}
	e.To.Src, e.To.Sport, e.To.Dst, e.To.Dport = key.Dst, key.Dport, key.Src, key.Sport
	f.m.must(f.m.d.maps.services.ct.Put(own, e))
	return own
}

// A port rests when its flow is over, for as long as the far end may know that. When all ports rest, a flow gets
// the one that has rested longest, and one whose flow was reset last of all.
func TestPortsRest(t *testing.T) {
	closed, reset := bpf.Flow{Fin: 1, FinBack: 1}, bpf.Flow{Reset: 1}
	for name, kind := range flowKinds {
		t.Run(name, func(t *testing.T) {
			m := routerWithNodePort(t)
			f := kind(m, layers.IPProtocolTCP, 40000)
			gets := func() uint16 {
				t.Helper()
				if verdict := f.send(synFlag); verdict == actShot {
					t.Fatal("the flow gets no port")
				}
				return f.as.Port()
			}
			again := func() { m.d.EvictFlows(t, true, true) }
			first := gets()
			f.answer(synFlag | ackFlag)
			f.answer(finFlag | ackFlag)
			f.send(finFlag | ackFlag)
			if got := gets(); got != first {
				t.Errorf("opened again by its own client, it gets port %d, had %d", got, first)
			}
			again()
			f.other(first, closed, 0)
			second := gets()
			if second == first {
				t.Error("a port is given away as soon as its flow is closed")
			}
			for name, test := range map[string]struct {
				e     bpf.Flow
				ago   uint32
				given bool
			}{
				"closed 60 s ago": {closed, 60, false},
				"reset 60 s ago":  {reset, 60, false},
				"closed 80 s ago": {closed, 80, true},
				"reset 80 s ago":  {reset, 80, true},
				"idle for 5 h":    {bpf.Flow{}, 5 * 3600, false},
				"idle for 7 h":    {bpf.Flow{}, 7 * 3600, true},
			} {
				again()
				f.other(first, test.e, test.ago)
				if got := gets(); (got == first) != test.given {
					t.Errorf("%s: the flow gets port %d, which is %d", name, first, got)
				}
			}
			fill := func(e bpf.Flow, ago uint32) {
				again()
				for port := natMin; port <= natMax; port++ {
					f.other(uint16(port), e, ago)
				}
			}
			fill(closed, 5)
			f.other(second, closed, 50)
			if got := gets(); got != second {
				t.Errorf("of ports that rest it gets %d, not %d, which has rested longest", got, second)
			}
			fill(reset, 70)
			f.other(second, closed, 5)
			if got := gets(); got != second {
				t.Errorf("it gets port %d of a flow that was reset, not %d of one that is closed", got, second)
			}
		})
	}
}

// Packets of a flow whose port was taken over do not leave with it.
func TestWhoWasTakenOverFindsOut(t *testing.T) {
	m := router(t)
	old := masqueradedFlow(m, layers.IPProtocolTCP, 40000)
	old.send(synFlag)
	port := old.as
	f := masqueradedFlow(m, layers.IPProtocolTCP, 40001)
	f.other(port.Port(), bpf.Flow{}, 0)
	m.d.AgeFlows(t)
	if old.send(ackFlag); old.as == port {
		t.Errorf("it still leaves as %s", port)
	}
}

// A flow goes on with the address that it would get if it was opened now. A connection may keep one that is
// still the node's.
func TestFlowsMoveToAnotherAddress(t *testing.T) {
	before := netip.MustParseAddr("192.0.2.99")
	for kindName, kind := range flowKinds {
		for _, test := range []struct {
			name  string
			proto layers.IPProtocol
			flags uint8
			still bool // the old address is the node's
			want  bool // that it moves
		}{
			{"a connection, address gone", layers.IPProtocolTCP, ackFlag, false, true},
			{"a connection, address still there", layers.IPProtocolTCP, ackFlag, true, false},
			{"a SYN again, address gone", layers.IPProtocolTCP, synFlag, false, true},
			{"datagrams, address gone", layers.IPProtocolUDP, 0, false, true},
			{"datagrams, address still there", layers.IPProtocolUDP, 0, true, true},
		} {
			if test.proto == layers.IPProtocolUDP && kindName != "masqueraded" {
				continue // the model's NodePort is TCP
			}
			t.Run(kindName+", "+test.name, func(t *testing.T) {
				m := routerWithNodePort(t)
				f := kind(m, test.proto, 40000)
				f.send(synFlag)
				f.answer(synFlag | ackFlag)
				if f.as.Addr() != m.ns.Addr {
					t.Fatalf("it leaves as %s", f.as)
				}
				for key, e := range entriesOf(t, m.d.maps.services.ct) {
					e.To.Src = bpf.IPOf(before)
					m.must(m.d.maps.services.ct.Put(key, e))
				}
				if test.still {
					m.must(m.d.maps.services.nodes.Put(bpf.IPOf(before), bpf.Node{Flags: bpf.PodLabNodeFlagLAB_IS_NODE | bpf.PodLabNodeFlagLAB_IS_LOCAL}))
				}
				m.must(m.d.maps.newGeneration())
				f.send(test.flags)
				if moved := f.as.Addr() == m.ns.Addr; moved != test.want {
					t.Errorf("it leaves as %s", f.as)
				}
				if test.want && !f.answer(ackFlag) {
					t.Error("its answers do not come back")
				}
			})
		}
	}
}
