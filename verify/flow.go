package verify

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"wirelab.dev/wirelab/verify/probe"
)

// flow is traffic from one pod to another that is told from all other: its
// echo requests by their payload, its TCP and UDP by the server's port.
type flow struct {
	pair
	marker string
	server netip.AddrPort
}

// sameNode tells whether the flow stays on one node.
func (f flow) sameNode() bool { return f.from.Node == f.to.Node }

// protocols are those of a flow, as requests and iptables name them.
func protocols() []string { return []string{"icmp", "tcp", "udp"} }

// Directions of a flow.
const (
	toServer   = "request"
	fromServer = "reply"
)

// key names the rules about one direction of one protocol of f.
func (f flow) key(protocol, direction string) string {
	return f.marker + " " + protocol + " " + direction
}

// match says for iptables what belongs to the flow.
func (f flow) match(protocol, direction string) string {
	switch {
	case protocol == "icmp" && direction == toServer:
		return fmt.Sprintf("-p icmp -m icmp --icmp-type %d -m string --algo bm --string %s", icmpEchoRequest, f.marker)
	case protocol == "icmp":
		return fmt.Sprintf("-p icmp -m icmp --icmp-type %d -m string --algo bm --string %s", icmpEchoReply, f.marker)
	case direction == toServer:
		return fmt.Sprintf("-d %s -p %s -m %s --dport %d", f.server.Addr(), protocol, protocol, f.server.Port())
	default:
		return fmt.Sprintf("-s %s -p %s -m %s --sport %d", f.server.Addr(), protocol, protocol, f.server.Port())
	}
}

// tripwires are the rules about f in one chain.
func (f flow) tripwires(at hook, target string) []tripwire {
	var rules []tripwire
	for _, protocol := range protocols() {
		for _, direction := range []string{toServer, fromServer} {
			rules = append(rules, tripwire{hook: at, match: f.match(protocol, direction), target: target, key: f.key(protocol, direction)})
		}
	}
	return rules
}

// ask asks for one exchange over a protocol.
func (f flow) ask(protocol string, timeout probe.Duration) probe.Request {
	ask := probe.Request{Timeout: timeout}
	switch protocol {
	case "icmp":
		ask.ICMP = &probe.ICMP{Address: f.to.Addr, Marker: f.marker}
	case "tcp":
		ask.HTTP = &probe.HTTP{URL: url(f.server), RequestTimeout: timeout}
	default:
		ask.UDP = &probe.UDP{Address: f.server}
	}
	return ask
}

// exchange is what became of one protocol of a flow.
type exchange struct {
	flow
	protocol string
	// lost says why there was no answer; empty where there was one.
	lost string
}

// exchangeAll sends every protocol of every flow at once.
func exchangeAll(ctx context.Context, flows []flow, timeout func(flow) probe.Duration) ([]exchange, error) {
	var all []exchange
	for _, f := range flows {
		for _, protocol := range protocols() {
			all = append(all, exchange{flow: f, protocol: protocol})
		}
	}
	var mu sync.Mutex
	lost := map[string]string{}
	err := each(all, func(x exchange) error {
		answer, err := x.from.Probe(ctx, x.ask(x.protocol, timeout(x.flow)))
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		lost[x.key(x.protocol, toServer)] = answer.Failure
		return nil
	})
	for i, x := range all {
		all[i].lost = lost[x.key(x.protocol, toServer)]
	}
	return all, err
}

// patient is for exchanges that are to be answered.
func patient(flow) probe.Duration { return probe.Duration(askTimeout) }

// pairsOfBoth lists a pair on every node and one for every ordered pair of nodes.
func (e *Env) pairsOfBoth() []pair {
	var pairs []pair
	for _, n := range e.Nodes {
		pairs = append(pairs, pair{n.Client, n.Server})
	}
	return append(pairs, e.acrossNodes()...)
}

// openFlows starts a server for each flow. The returned function ends those
// that were started, and is to be called after an error too.
func openFlows(ctx context.Context, pairs []pair) ([]flow, func() error, error) {
	flows := make([]flow, len(pairs))
	var mu sync.Mutex
	var stops []func() error
	places := make([]int, len(pairs))
	for i := range places {
		places[i] = i
	}
	err := each(places, func(i int) error {
		p := pairs[i]
		if !p.to.Addr.IsValid() {
			return fmt.Errorf("%s: %s has no address", p, p.to.Name)
		}
		server, stop, err := serveAlone(ctx, p.to)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		stops = append(stops, stop)
		flows[i] = flow{pair: p, marker: newMarker(), server: server}
		return nil
	})
	return flows, func() error {
		return errors.Join(each(stops, func(stop func() error) error { return stop() }))
	}, err
}
