package show

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"wirelab.dev/wirelab/internal/api"
)

// End is what a packet comes from or goes to. The zero End is anything.
type End struct{ Addr netip.Addr }

// ParseEnd reads what a person names an end by: an address or, as namespace/name, a pod, whose address podAddr finds.
func ParseEnd(text string, podAddr func(namespace, name string) (netip.Addr, error)) (End, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return End{Addr: addr.Unmap()}, nil
	}
	namespace, name, ok := strings.Cut(text, "/")
	if !ok || namespace == "" || name == "" {
		return End{}, fmt.Errorf("pick events by %q: want a pod as default/demo, or an address", text)
	}
	addr, err := podAddr(namespace, name)
	if err != nil {
		return End{}, fmt.Errorf("pick events by %q: %w", text, err)
	}
	return End{Addr: addr}, nil
}

// String is what [ParseEnd] reads without asking for pods; empty for anything.
func (e End) String() string {
	if !e.Addr.IsValid() {
		return ""
	}
	return e.Addr.String()
}

func (e End) is(addr netip.Addr) bool { return !e.Addr.IsValid() || e.Addr == addr }

// AddrOf finds a pod's address among endpoints.
func AddrOf(all []api.LabeledEndpoint) func(namespace, name string) (netip.Addr, error) {
	return func(namespace, name string) (netip.Addr, error) {
		for _, e := range all {
			if e.Namespace == namespace && e.Pod == name {
				return e.Addr, nil
			}
		}
		return netip.Addr{}, errors.New("there is no such pod with an address of its own on this node")
	}
}

// EventTypes are the types of events that can be asked for. Losses are told in any case.
func EventTypes() []string {
	return []string{string(api.EventTrace), string(api.EventDrop), string(api.EventStep)}
}

// EventFilter picks events. Its zero value picks everything.
type EventFilter struct {
	Types    []string // empty: all
	From, To End
	Related  End // either of the two
}

// Check refuses types that there are not.
func (f EventFilter) Check() error {
	for _, t := range f.Types {
		if !slices.Contains(EventTypes(), t) {
			return fmt.Errorf("pick events of type %q: there are %s", t, strings.Join(EventTypes(), ", "))
		}
	}
	return nil
}

// Args are the flags of the agent's monitor that pick the same.
func (f EventFilter) Args() (args []string) {
	if len(f.Types) > 0 {
		args = append(args, "--type", strings.Join(f.Types, ","))
	}
	for _, e := range []struct {
		flag string
		end  End
	}{{"--from", f.From}, {"--to", f.To}, {"--related-to", f.Related}} {
		if text := e.end.String(); text != "" {
			args = append(args, e.flag, text)
		}
	}
	return args
}

// Picks says whether an event is one of those that are asked for.
func (f EventFilter) Picks(e api.Event) bool {
	if e.Type == api.EventLost {
		return true
	}
	src, dst := e.Src.Addr(), e.Dst.Addr()
	return (len(f.Types) == 0 || slices.Contains(f.Types, string(e.Type))) &&
		f.From.is(src) && f.To.is(dst) && (f.Related.is(src) || f.Related.is(dst))
}
