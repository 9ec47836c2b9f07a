package show

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"wirelab.dev/wirelab/internal/api"
)

func TestParseEnd(t *testing.T) {
	pods := func(namespace, name string) (netip.Addr, error) {
		if namespace+"/"+name == "default/demo" {
			return netip.MustParseAddr("10.0.1.3"), nil
		}
		return netip.Addr{}, errors.New("no such pod")
	}
	for text, want := range map[string]End{
		"10.0.1.7":     {Addr: netip.MustParseAddr("10.0.1.7")},
		"20034":        {Identity: 20034},
		"default/demo": {Addr: netip.MustParseAddr("10.0.1.3")},
		"demo":         {Addr: netip.MustParseAddr("10.0.1.3")},
	} {
		got, err := ParseEnd(text, pods)
		if err != nil || got != want {
			t.Errorf("%s is %v, %v", text, got, err)
		}
		if again, err := ParseEnd(got.String(), nil); err != nil || again != got {
			t.Errorf("%s is said again as %s", text, got)
		}
	}
	for text, say := range map[string]string{"none": `"none": no such pod`, "0": `"0": no such pod`, "/": "want a pod, as demo", "a/b/c": "want a pod", "default/none": `"default/none": no such pod`} {
		if _, err := ParseEnd(text, pods); err == nil || !strings.Contains(err.Error(), say) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", text, err, say)
		}
	}
}

// TestPicker: of a packet all events are picked or none, whichever of them has the ends that are asked for.
func TestPicker(t *testing.T) {
	a, b, service := netip.MustParseAddrPort("10.0.1.2:4000"), netip.MustParseAddrPort("10.0.1.3:80"), netip.MustParseAddrPort("10.96.0.9:80")
	request := []api.Event{
		{Type: api.EventTrace, Packet: 1, Point: "from-pod", Src: a, Dst: service},
		{Type: api.EventStep, Packet: 1, Step: &api.Step{Kind: api.StepDelivery}},
		{Type: api.EventTrace, Packet: 1, Point: "to-pod", Src: a, Dst: b, OrigDst: service, SrcIdentity: 300, DstIdentity: 400},
	}
	reply := []api.Event{
		{Type: api.EventTrace, Packet: 9, CPU: 1, Point: "from-pod", Src: b, Dst: a},
		{Type: api.EventDrop, Packet: 9, CPU: 1, Point: "from-pod", Src: b, Dst: a},
	}
	lost := api.Event{Type: api.EventLost, CPU: 1, Missed: 7}
	end := func(p netip.AddrPort) End { return End{Addr: p.Addr()} }
	for _, tt := range []struct {
		name   string
		filter EventFilter
		want   int
	}{
		{"all", EventFilter{}, 6},
		{"from the client", EventFilter{From: end(a)}, 4},
		{"to the backend, known when it is delivered", EventFilter{To: end(b)}, 4},
		{"to the Service", EventFilter{To: end(service)}, 4},
		{"to the client", EventFilter{To: end(a)}, 3},
		{"with the backend, both ways", EventFilter{Related: end(b)}, 6},
		{"from one to the other", EventFilter{From: end(a), To: end(b)}, 4},
		{"from an identity", EventFilter{From: End{Identity: 300}}, 4},
		{"to an identity that is from there", EventFilter{To: End{Identity: 300}}, 1},
		{"drops", EventFilter{Types: []string{"drop"}}, 2},
		{"steps to the backend", EventFilter{Types: []string{"step"}, To: end(b)}, 2},
		{"of somebody else", EventFilter{Related: End{Addr: netip.MustParseAddr("10.0.1.9")}}, 1},
	} {
		p := Picker{Filter: tt.filter}
		var got []api.Event
		for i := range max(len(request), len(reply)) { // on two CPUs at a time
			for _, of := range [][]api.Event{request, reply} {
				if i < len(of) {
					got = append(got, p.Add(of[i])...)
				}
			}
			p.Mark() // as it comes at any time
		}
		got = append(got, p.Add(lost)...)
		if len(got) != tt.want || !slices.ContainsFunc(got, func(e api.Event) bool { return e.Missed == 7 }) {
			t.Errorf("%s: %d events, want %d with the loss: %+v", tt.name, len(got), tt.want, got)
		}
	}
}

// TestPickerForgets: packets that are not picked are not kept for ever.
func TestPickerForgets(t *testing.T) {
	p := Picker{Filter: EventFilter{From: End{Identity: 300}}}
	for n := range 5 * uint64(maxSeen) {
		p.Add(api.Event{Type: api.EventTrace, Packet: n})
	}
	if kept := len(p.now) + len(p.before); kept > 2*maxSeen {
		t.Errorf("%d packets are kept", kept)
	}
	p.Mark()
	p.Mark()
	if kept := len(p.now) + len(p.before); kept != 0 {
		t.Errorf("%d packets are kept after two marks", kept)
	}
}

func TestEventFilterSaysItself(t *testing.T) {
	f := EventFilter{Types: []string{"drop", "trace"}, From: End{Identity: 3}, Related: End{Addr: netip.MustParseAddr("10.0.0.1")}}
	if got := strings.Join(f.Args(), " "); got != "--type drop,trace --from 3 --related-to 10.0.0.1" {
		t.Errorf("flags: %s", got)
	}
	if err := f.Check(); err != nil {
		t.Error(err)
	}
	if err := (EventFilter{Types: []string{"drops"}}).Check(); err == nil || !strings.Contains(err.Error(), "there are trace, drop, step") {
		t.Errorf("a type that there is not: %v", err)
	}
}
