package show

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"wirelab.dev/wirelab/internal/api"
)

// End is what a packet comes from or goes to: an address, or any with an identity. The zero End is anything.
type End struct {
	Addr     netip.Addr
	Identity uint32
}

// ParseEnd reads what a person names an end by: an address, an identity's number or, as [api.ParsePodName] reads it, a pod, whose
// addresses podAddr finds.
func ParseEnd(text string, podAddr func(namespace, name string) (netip.Addr, error)) (End, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return End{Addr: addr.Unmap()}, nil
	}
	if n, err := strconv.ParseUint(text, 10, 32); err == nil && n != 0 {
		return End{Identity: uint32(n)}, nil
	}
	pod, err := api.ParsePodName(text)
	if err != nil {
		return End{}, fmt.Errorf("pick events by %q: want a pod, as demo or kube-system/coredns, an address, or an identity's number", text)
	}
	addr, err := podAddr(pod.Namespace, pod.Name)
	if err != nil {
		return End{}, fmt.Errorf("pick events by %q: %w", text, err)
	}
	return End{Addr: addr}, nil
}

// String is what [ParseEnd] reads without asking for pods; empty for anything.
func (e End) String() string {
	switch {
	case e.Addr.IsValid():
		return e.Addr.String()
	case e.Identity != 0:
		return strconv.FormatUint(uint64(e.Identity), 10)
	}
	return ""
}

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

// ofType says whether the event is of a type that is asked for.
func (f EventFilter) ofType(e api.Event) bool {
	return len(f.Types) == 0 || e.Type == api.EventLost || slices.Contains(f.Types, string(e.Type))
}

// Picks says whether an event has the ends that are asked for. One event of a packet may have them where another has not:
// see [Picker].
func (f EventFilter) Picks(e api.Event) bool {
	ends := endsOf(e)
	return f.From.among(ends.src, ends.srcID) && f.To.among(ends.dst, ends.dstID) &&
		(f.Related.among(ends.src, ends.srcID) || f.Related.among(ends.dst, ends.dstID))
}

// ends are those of a packet as one event has them, before and after translation.
type ends struct {
	src, dst     []netip.Addr
	srcID, dstID uint32
}

func endsOf(e api.Event) ends {
	if e.Type != api.EventStep {
		return ends{[]netip.Addr{e.Src.Addr(), e.OrigSrc.Addr()}, []netip.Addr{e.Dst.Addr(), e.OrigDst.Addr()}, e.SrcIdentity, e.DstIdentity}
	}
	s := e.Step
	return ends{src: []netip.Addr{s.Src.Addr(), s.NewSrc.Addr()}, dst: []netip.Addr{s.Dst.Addr(), s.NewDst.Addr()}}
}

func (e End) among(addrs []netip.Addr, identity uint32) bool {
	switch {
	case e.Addr.IsValid():
		return slices.Contains(addrs, e.Addr)
	case e.Identity != 0:
		return e.Identity == identity
	}
	return true
}

// Picker picks packets out of a stream of events: all events of a packet of which one has the ends that are asked for.
// Events of others are kept until it is clear that they are.
type Picker struct {
	Filter EventFilter
	// now and before are the packets since the last mark, and since the one before that.
	now, before map[pass]*seen
}

// pass is what events of one packet's way through one program have in common.
type pass struct {
	cpu    int
	packet uint64
}

type seen struct {
	picked bool
	events []api.Event // while it is not
}

// maxSeen bounds how many packets are kept between two marks.
const maxSeen = 1 << 16

// Add takes the next event, and returns those that are picked by now, in their order.
func (p *Picker) Add(e api.Event) (out []api.Event) {
	if p.Filter.From == (End{}) && p.Filter.To == (End{}) && p.Filter.Related == (End{}) || e.Type == api.EventLost {
		return p.typed([]api.Event{e})
	}
	s := p.of(pass{e.CPU, e.Packet})
	s.picked = s.picked || p.Filter.Picks(e)
	if !s.picked {
		s.events = append(s.events, e)
		return nil
	}
	out, s.events = append(s.events, e), nil
	return p.typed(out)
}

func (p *Picker) of(key pass) *seen {
	if s := p.now[key]; s != nil {
		return s
	}
	s := p.before[key]
	if s == nil {
		s = &seen{}
	}
	if p.now == nil || len(p.now) >= maxSeen {
		p.Mark()
	}
	p.now[key] = s
	return s
}

func (p *Picker) typed(events []api.Event) []api.Event {
	return keep(events, p.Filter.ofType)
}

// Mark says that some time has passed. What has not been picked since the mark before will not be.
func (p *Picker) Mark() { p.now, p.before = map[pass]*seen{}, p.now }
