package field

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"wirelab.dev/wirelab/internal/interrupt"
	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/probe"
)

// Flow is traffic from one pod to another that is told from all other: its
// echo requests by their payload, its TCP and UDP by the server's port.
type Flow struct {
	Pair
	Marker string
	Server netip.AddrPort
}

// SameNode tells whether the flow stays on one node.
func (f Flow) SameNode() bool { return f.From.Node == f.To.Node }

// Protocols are those of a flow, as requests, captures and iptables name them.
func Protocols() []string { return []string{"icmp", "tcp", "udp"} }

// Directions of a flow.
const (
	ToServer   = "request"
	FromServer = "reply"
)

// Key names the rules about one direction of one protocol of f.
func (f Flow) Key(protocol, direction string) string {
	return f.Marker + " " + protocol + " " + direction
}

// match says for iptables what belongs to the flow.
func (f Flow) match(protocol, direction string) string {
	side, icmpType := "d", ICMPEchoRequest
	if direction == FromServer {
		side, icmpType = "s", ICMPEchoReply
	}
	if protocol == "icmp" {
		return fmt.Sprintf("-p icmp -m icmp --icmp-type %d -m string --algo bm --string %s", icmpType, f.Marker)
	}
	return fmt.Sprintf("-%s %s -p %s -m %s --%sport %d", side, f.Server.Addr(), protocol, protocol, side, f.Server.Port())
}

// Filters pick what of one protocol belongs to the flow, in both directions.
func (f Flow) Filters(protocol string) []probe.Filter {
	if protocol == "icmp" {
		return []probe.Filter{{Protocol: "icmp", Contains: f.Marker}}
	}
	return []probe.Filter{
		{Protocol: protocol, Destination: f.Server.Addr(), DestinationPort: f.Server.Port()},
		{Protocol: protocol, Source: f.Server.Addr(), SourcePort: f.Server.Port()},
	}
}

// Tripwires are the rules about f in one chain.
func (f Flow) Tripwires(at Hook, target string) []Tripwire {
	var rules []Tripwire
	for _, protocol := range Protocols() {
		for _, direction := range []string{ToServer, FromServer} {
			rules = append(rules, Tripwire{Hook: at, match: f.match(protocol, direction), target: target, key: f.Key(protocol, direction)})
		}
	}
	return rules
}

// ask asks for one exchange over a protocol.
func (f Flow) ask(protocol string, timeout probe.Duration) probe.Request {
	ask := probe.Request{Timeout: timeout}
	switch protocol {
	case "icmp":
		ask.ICMP = &probe.ICMP{Address: f.To.Addr, Marker: f.Marker}
	case "tcp":
		ask.HTTP = &probe.HTTP{URL: URL(f.Server), RequestTimeout: timeout}
	default:
		ask.UDP = &probe.UDP{Address: f.Server}
	}
	return ask
}

// Exchange is what became of one protocol of a flow.
type Exchange struct {
	Flow
	Protocol string
	// Lost says why there was no answer; empty where there was one.
	Lost string
}

// ExchangeAll sends every protocol of every flow at once.
func ExchangeAll(ctx context.Context, flows []Flow, timeout func(Flow) probe.Duration) ([]Exchange, error) {
	var all []Exchange
	for _, f := range flows {
		for _, protocol := range Protocols() {
			all = append(all, Exchange{Flow: f, Protocol: protocol})
		}
	}
	return all, verify.Each(pointers(all), func(x *Exchange) error {
		answer, err := x.From.Probe(ctx, x.ask(x.Protocol, timeout(x.Flow)))
		x.Lost = answer.Failure
		return err
	})
}

// pointers has one to each element.
func pointers[T any](of []T) []*T {
	all := make([]*T, len(of))
	for i := range of {
		all[i] = &of[i]
	}
	return all
}

// Patient is for exchanges that are to be answered.
func Patient(Flow) probe.Duration { return probe.Duration(AskTimeout) }

// OpenFlows starts a server for each flow. The returned function ends those
// that were started, and is to be called after an error too.
func OpenFlows(ctx context.Context, pairs []Pair) ([]Flow, func() error, error) {
	var flows []Flow
	for _, p := range pairs {
		flows = append(flows, Flow{Pair: p, Marker: NewMarker()})
	}
	var mu sync.Mutex
	var stops []func() error
	err := verify.Each(pointers(flows), func(f *Flow) error {
		if !f.To.Addr.IsValid() {
			return fmt.Errorf("%s: %s has no address", f, f.To.Name)
		}
		server, stop, err := ServeAlone(ctx, f.To)
		if err != nil {
			return err
		}
		f.Server = server
		mu.Lock()
		defer mu.Unlock()
		stops = append(stops, stop)
		return nil
	})
	return flows, func() error { return verify.Each(stops, func(stop func() error) error { return stop() }) }, err
}

// ServeAlone starts a server on a port of its own, so that its port tells the
// flow from all others of a pod.
func ServeAlone(ctx context.Context, on Peer) (netip.AddrPort, func() error, error) {
	running, err := serveOn(ctx, on, netip.AddrPortFrom(on.Addr, 0))
	if err != nil {
		return netip.AddrPort{}, nil, err
	}
	stop := func() error {
		ctx, cancel := interrupt.Cleanup(ctx, verify.CleanupTimeout)
		defer cancel()
		_, err := running.Stop(ctx)
		return err
	}
	return running.Ready().Serve.Address, stop, nil
}

// NewMarker returns a payload no other probe of any run has.
func NewMarker() string { return rand.Text() }

// ICMP message types.
const (
	ICMPEchoReply   = 0
	ICMPEchoRequest = 8
)

// AskTimeout bounds one question to a server: far more than an answer takes on
// a busy machine, little enough that a check with several has time for all.
const AskTimeout = 3 * time.Second

// URL is where a nettool server answers HTTP.
func URL(at netip.AddrPort) string { return "http://" + at.String() + "/" }
