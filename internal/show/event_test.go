package show

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

// TestPingInEvents: what is told of a ping on one node, with its steps, in their order.
func TestPingInEvents(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 6000, time.Local)
	a, b := netip.MustParseAddrPort("10.0.1.2:0"), netip.MustParseAddrPort("10.0.1.3:0")
	packet := func(point api.Point, src, dst netip.AddrPort, icmp uint8) api.Event {
		return api.Event{Type: api.EventTrace, Time: at, Node: "l-worker", Point: point, EtherType: 0x0800, Proto: 1, ICMPType: icmp, Src: src, Dst: dst, Length: 98, Iface: "lxc1", TTL: 64}
	}
	step := func(s api.Step) api.Event {
		return api.Event{Type: api.EventStep, Time: at, Node: "l-worker", Step: &s}
	}
	there := packet(api.ToPod, a, b, 8)
	there.State, there.Reason, there.SrcIdentity, there.DstIdentity, there.SrcEndpoint, there.DstEndpoint = api.StateNew, "delivered", 300, 400, 2, 3
	back := packet(api.ToPod, b, a, 0)
	back.State, back.Reason, back.SrcIdentity, back.DstIdentity, back.SrcEndpoint, back.DstEndpoint = api.StateReply, "delivered", 400, 300, 3, 2
	back.Age, back.Cached, back.Decided = 20*time.Microsecond, true, 1500*time.Millisecond
	all := []api.Event{
		packet(api.FromPod, a, b, 8),
		step(api.Step{Kind: api.StepLookup, Table: "observed", Proto: 1, Src: a, Dst: b, State: api.StateNew}),
		step(api.Step{Kind: api.StepIdentity, Address: b.Addr(), Identity: 400}),
		step(api.Step{Kind: api.StepCreated, Table: "observed", Proto: 1, Src: a, Dst: b}),
		step(api.Step{Kind: api.StepDelivery, Endpoint: 3, Iface: "lxc2"}),
		there,
		step(api.Step{Kind: api.StepLookup, Table: "observed", Proto: 1, Src: b, Dst: a, Found: true, State: api.StateReply, Age: 20 * time.Microsecond}),
		back,
		{Type: api.EventLost, Time: at, Node: "l-worker", CPU: 1, Missed: 1},
	}
	var got strings.Builder
	for _, e := range all {
		e.Time = e.Time.UTC() // as agents tell it
		got.WriteString(strings.TrimPrefix(EventText{Nodes: true, Lab: "l", Detail: 1}.String(e), "03:04:05.000006 worker        "))
	}
	const want = `from-pod     ICMP 10.0.1.2 > 10.0.1.3 echo, 98 bytes, ttl 64, lxc1, 00:00:00:00:00:00 > 00:00:00:00:00:00
lookup       observed: ICMP 10.0.1.2 > 10.0.1.3, no entry, verdict new
identity     10.0.1.3 has identity 400
created      observed: ICMP 10.0.1.2 > 10.0.1.3
delivery     to endpoint 3 by lxc2
to-pod       ICMP 10.0.1.2 > 10.0.1.3 echo, 98 bytes, new, identity 300->400, endpoint 2->3, ttl 64, lxc1, 00:00:00:00:00:00 > 00:00:00:00:00:00: delivered
lookup       observed: ICMP 10.0.1.3 > 10.0.1.2, entry found, verdict reply, created 20µs ago
to-pod       ICMP 10.0.1.3 > 10.0.1.2 echo reply, 98 bytes, reply, identity 400->300, endpoint 3->2, ttl 64, flow of 20µs, decided 1.5s ago, lxc1, 00:00:00:00:00:00 > 00:00:00:00:00:00: delivered
lost         lost 1 event (CPU 1)
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

// TestEventLayersAndBytes: they stand below the line, and a line is not wider than the screen.
func TestEventLayersAndBytes(t *testing.T) {
	e := api.Event{Type: api.EventTrace, Point: api.FromPod, EtherType: 0x0806, Length: 42, Data: []byte{
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 1, 2, 0, 0, 0, 0, 0, 0, 10, 0, 1, 1,
	}}
	for _, tt := range []struct {
		text EventText
		want int
	}{{EventText{}, 1}, {EventText{Detail: 1}, 1}, {EventText{Detail: 2}, 3}, {EventText{Hex: true}, 4}, {EventText{Detail: 2, Hex: true}, 6}} {
		got := tt.text.String(e)
		if n := strings.Count(got, "\n"); n != tt.want {
			t.Errorf("%+v: %d lines, want %d:\n%s", tt.text, n, tt.want, got)
		}
		if tt.text.Detail == 2 && !strings.Contains(got, "\n    ARP       who has 10.0.1.1, asks 10.0.1.2\n") {
			t.Errorf("no layers in\n%s", got)
		}
	}
	if got := (EventText{Width: 20}).String(e); len([]rune(got)) != 21 {
		t.Errorf("%q", got)
	}
	if got := (EventText{Colors: true}).String(api.Event{Type: api.EventDrop}); !strings.HasPrefix(got, "\x1b[31m") {
		t.Errorf("a drop without colour: %q", got)
	}
}
