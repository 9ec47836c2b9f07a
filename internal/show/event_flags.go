package show

import (
	"net/netip"
	"strings"

	"github.com/spf13/pflag"
)

// EventsSeen is the part of commands' help that says what there are events of.
const EventsSeen = `What is reported, network.bpf.monitorAggregation says:
  maximum  packets that are dropped
  medium   also, of each flow, its start, its first reply, its end, and one packet in 5 s
  none     every packet of pods, where it comes in and where it goes
With network.debug.verbose datapath each step of what a program decides is reported, too.`

// EventFlags are the flags that say which events are shown, and how.
type EventFlags struct {
	types             []string
	from, to, related string
	detail            int
	hex               bool
}

// Add adds the flags to a command's.
func (e *EventFlags) Add(f *pflag.FlagSet) {
	f.StringSliceVar(&e.types, "type", nil, "only these types of events: "+strings.Join(EventTypes(), ", "))
	f.StringVar(&e.from, "from", "", "only packets from this pod (namespace/name, or a name in the namespace default), address or identity (number)")
	f.StringVar(&e.to, "to", "", "only packets to this pod, address or identity")
	f.StringVar(&e.related, "related-to", "", "only packets from or to this pod, address or identity")
	f.CountVarP(&e.detail, "verbose", "v", "say more in the line: interface, MACs, TTL and endpoints; -vv: and the packet's layers below it")
	f.BoolVar(&e.hex, "hex", false, "show the first bytes of packets")
}

// Ends are the flags that take a pod.
func (EventFlags) Ends() []string { return []string{"from", "to", "related-to"} }

// Check says what is wrong with the flags, without asking for pods.
func (e *EventFlags) Check() error {
	_, err := e.Filter(func(string, string) (netip.Addr, error) { return netip.IPv4Unspecified(), nil })
	return err
}

// Filter is what the flags pick. podAddr finds pods' addresses.
func (e *EventFlags) Filter(podAddr func(namespace, name string) (netip.Addr, error)) (f EventFilter, err error) {
	f.Types = e.types
	if err := f.Check(); err != nil {
		return f, err
	}
	for _, x := range []struct {
		text string
		end  *End
	}{{e.from, &f.From}, {e.to, &f.To}, {e.related, &f.Related}} {
		if x.text == "" {
			continue
		}
		if *x.end, err = ParseEnd(x.text, podAddr); err != nil {
			return f, err
		}
	}
	return f, nil
}

// Text is how the flags have events laid out.
func (e *EventFlags) Text() EventText { return EventText{Detail: e.detail, Hex: e.hex} }
