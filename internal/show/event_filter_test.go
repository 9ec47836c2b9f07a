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
		"default/demo": {Addr: netip.MustParseAddr("10.0.1.3")},
	} {
		got, err := ParseEnd(text, pods)
		if err != nil || got != want {
			t.Errorf("%s is %v, %v", text, got, err)
		}
		if again, err := ParseEnd(got.String(), nil); err != nil || again != got {
			t.Errorf("%s is said again as %s", text, got)
		}
	}
	for text, say := range map[string]string{"demo": "want a pod as default/demo", "20034": "want a pod", "/": "want a pod", "default/none": `"default/none": no such pod`} {
		if _, err := ParseEnd(text, pods); err == nil || !strings.Contains(err.Error(), say) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", text, err, say)
		}
	}
}

func TestEventFilter(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.0.1.2:4000"), netip.MustParseAddrPort("10.0.1.3:80")
	all := []api.Event{
		{Type: api.EventTrace, Src: a, Dst: b}, {Type: api.EventTrace, Src: b, Dst: a}, {Type: api.EventDrop, Src: b, Dst: a},
		{Type: api.EventTrace}, {Type: api.EventLost, Missed: 7},
	}
	end := func(p netip.AddrPort) End { return End{Addr: p.Addr()} }
	for _, tt := range []struct {
		name   string
		filter EventFilter
		want   []int
	}{
		{"all", EventFilter{}, []int{0, 1, 2, 3, 4}},
		{"from one", EventFilter{From: end(a)}, []int{0, 4}},
		{"to it", EventFilter{To: end(a)}, []int{1, 2, 4}},
		{"both", EventFilter{Related: end(a)}, []int{0, 1, 2, 4}},
		{"from one to the other", EventFilter{From: end(b), To: end(a)}, []int{1, 2, 4}},
		{"drops", EventFilter{Types: []string{"drop"}}, []int{2, 4}},
		{"of somebody else", EventFilter{Related: End{Addr: netip.MustParseAddr("10.0.1.9")}}, []int{4}},
	} {
		var got []int
		for i, e := range all {
			if tt.filter.Picks(e) {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestEventFilterSaysItself(t *testing.T) {
	f := EventFilter{Types: []string{"drop", "trace"}, From: End{Addr: netip.MustParseAddr("10.0.0.2")}, Related: End{Addr: netip.MustParseAddr("10.0.0.1")}}
	if got := strings.Join(f.Args(), " "); got != "--type drop,trace --from 10.0.0.2 --related-to 10.0.0.1" {
		t.Errorf("flags: %s", got)
	}
	if err := f.Check(); err != nil {
		t.Error(err)
	}
	if err := (EventFilter{Types: []string{"drops"}}).Check(); err == nil || !strings.Contains(err.Error(), "there are trace, drop") {
		t.Errorf("a type that there is not: %v", err)
	}
}
