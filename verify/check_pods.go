package verify

import (
	"context"
	"errors"
	"fmt"

	"wirelab.dev/wirelab/verify/probe"
)

// bulk is how many bytes a TCP check sends each way: enough for the window to
// open and segments to be merged.
const bulk = 1 << 20

// pair is a way from one pod to another.
type pair struct{ from, to Host }

func (p pair) String() string { return p.from.Name + " -> " + p.to.Name }

// sameNode lists each node's two pods, both ways.
func (e *Env) sameNode() []pair {
	var pairs []pair
	for _, n := range e.Nodes {
		pairs = append(pairs, pair{n.Client, n.Server}, pair{n.Server, n.Client})
	}
	return pairs
}

// acrossNodes lists a pair of pods for every ordered pair of nodes. A lab of
// one node has none.
func (e *Env) acrossNodes() []pair {
	var pairs []pair
	for _, from := range e.Nodes {
		for _, to := range e.Nodes {
			if from != to {
				pairs = append(pairs, pair{from.Client, to.Server})
			}
		}
	}
	return pairs
}

// placement is where the two pods of a pair are.
type placement struct {
	name, words string
	pairs       func(*Env) []pair
	minNodes    int
}

func podChecks() []Check {
	var checks []Check
	for _, p := range []placement{
		{"same-node", "two pods on one node", (*Env).sameNode, 1},
		{"across-nodes", "pods on two nodes, for every ordered pair of nodes", (*Env).acrossNodes, 2},
	} {
		checks = append(checks,
			pairCheck("pods/icmp-"+p.name, "Echo requests between "+p.words+" are answered.", p, pairICMP),
			pairCheck("pods/tcp-"+p.name, "A megabyte goes both ways unchanged over TCP between "+p.words+", and the client's own address arrives.", p, pairTCP),
			pairCheck("pods/udp-"+p.name, "Datagrams between "+p.words+" are answered, and the client's own address arrives.", p, pairUDP),
			pairCheck("pods/mtu-"+p.name, "Packets as large as the NIC's MTU pass whole between "+p.words+", and no larger ones.", p, pairMTU),
		)
	}
	return append(checks,
		Check{Name: "pods/to-nodes", Claim: "Every pod reaches every node by ICMP, TCP and UDP, with its own address.", Run: podsToNodes},
		Check{Name: "nodes/to-pods", Claim: "Every node reaches every pod by ICMP, TCP and UDP, with its own address.", Run: nodesToPods},
	)
}

func pairCheck(name, claim string, p placement, look func(context.Context, *Env, pair, *Evidence) error) Check {
	return Check{Name: name, Claim: claim, MinNodes: p.minNodes, Run: func(ctx context.Context, env *Env, ev *Evidence) error {
		return each(p.pairs(env), func(each pair) error {
			if !each.to.Addr.IsValid() {
				return fmt.Errorf("%s: %s has no address", each, each.to.Name)
			}
			return look(ctx, env, each, ev)
		})
	}}
}

func pairICMP(ctx context.Context, _ *Env, p pair, ev *Evidence) error {
	return ping(ctx, p.from, p.to, ev)
}

// ping sends three echo requests; every one must be answered by its addressee.
func ping(ctx context.Context, from, to Host, ev *Evidence) error {
	const count = 3
	what := fmt.Sprintf("%s -> %s (icmp %s)", from.Name, to.Name, to.Addr)
	reply, ok, err := sent(ctx, from, what, probe.Request{ICMP: &probe.ICMP{Address: to.Addr, Count: count}}, ev)
	if err != nil || !ok {
		return err
	}
	r := reply.ICMP
	ev.Expect(r.Received == count && r.From == to.Addr, "%s: %d of %d answered by %s, TTL %d", what, r.Received, count, r.From, r.TTL)
	return nil
}

func pairTCP(ctx context.Context, _ *Env, p pair, ev *Evidence) error {
	what := fmt.Sprintf("%s (tcp %s)", p, p.to.At())
	reply, ok, err := sent(ctx, p.from, what, probe.Request{Timeout: probe.Duration(2 * askTimeout), TCP: &probe.TCP{Address: p.to.At(), Bytes: bulk}}, ev)
	if err != nil || !ok {
		return err
	}
	if reply.TCP.Up != bulk || reply.TCP.Down != bulk || reply.TCP.Identity == nil {
		ev.Wrong("%s: %d bytes went up and %d came down, of %d", what, reply.TCP.Up, reply.TCP.Down, bulk)
		return nil
	}
	return ask{by: []Host{p.to}, client: own(p.from)}.judge(what, *reply.TCP.Identity, false, ev)
}

func pairUDP(ctx context.Context, _ *Env, p pair, ev *Evidence) error {
	return ask{from: p.from, to: p.to.At(), name: p.to.Name, by: []Host{p.to}, client: own(p.from)}.over(ctx, "udp", ev)
}

// Header bytes of an IPv4 packet that are not the payload of an echo request
// or of a datagram.
const headers = 20 + 8

// pairMTU also sends one byte more than the MTU: only where that is refused
// did the other packets prove that the MTU is what it is said to be.
func pairMTU(ctx context.Context, env *Env, p pair, ev *Evidence) error {
	mtu, err := env.wantedMTU(ctx, p)
	if err != nil {
		return err
	}
	dev, err := device(ctx, p.from, "eth0")
	if err != nil {
		return err
	}
	if !ev.Expect(dev.MTU == mtu, "%s: eth0 has MTU %d, to be %d", p.from.Name, dev.MTU, mtu) {
		return nil
	}
	what := fmt.Sprintf("%s with DF and %d bytes", p, mtu)
	size := mtu - headers
	_, okICMP, errICMP := sent(ctx, p.from, what+" (icmp)", probe.Request{ICMP: &probe.ICMP{Address: p.to.Addr, Size: size, DF: true, Count: 2}}, ev)
	_, okUDP, errUDP := sent(ctx, p.from, what+" (udp)", probe.Request{UDP: &probe.UDP{Address: p.to.At(), Size: size, DF: true, Count: 2}}, ev)
	if err := errors.Join(errICMP, errUDP); err != nil {
		return err
	}
	if okICMP && okUDP {
		ev.Saw("%s: answered", what)
	}
	over, err := p.from.Probe(ctx, probe.Request{ICMP: &probe.ICMP{Address: p.to.Addr, Size: size + 1, DF: true}})
	if err != nil {
		return err
	}
	ev.Expect(over.Failure != "", "%s with DF and %d bytes: refused", p, mtu+1)
	return nil
}

// wantedMTU is what the profile asks for, else the smaller of the NICs of the
// two pods' nodes.
func (e *Env) wantedMTU(ctx context.Context, p pair) (int, error) {
	if e.MTU != 0 {
		return e.MTU, nil
	}
	least := 0
	for _, pod := range []Host{p.from, p.to} {
		node, err := e.node(pod.Node)
		if err != nil {
			return 0, err
		}
		nic, err := nicOf(ctx, node)
		if err != nil {
			return 0, err
		}
		if least == 0 || nic.MTU < least {
			least = nic.MTU
		}
	}
	return least, nil
}

func podsToNodes(ctx context.Context, env *Env, ev *Evidence) error {
	var asks []ask
	var pings []pair
	for _, from := range env.Nodes {
		for _, to := range env.Nodes {
			asks = append(asks, ask{from: from.Client, to: to.At(), name: to.Name, client: own(from.Client)})
			pings = append(pings, pair{from.Client, to.Host})
		}
	}
	return errors.Join(askAll(ctx, ev, asks), each(pings, func(p pair) error { return ping(ctx, p.from, p.to, ev) }))
}

func nodesToPods(ctx context.Context, env *Env, ev *Evidence) error {
	var asks []ask
	var pings []pair
	for _, from := range env.Nodes {
		for _, to := range env.Nodes {
			asks = append(asks, ask{from: from.Host, to: to.Server.At(), name: to.Server.Name, by: []Host{to.Server}, client: own(from.Host)})
			pings = append(pings, pair{from.Host, to.Server})
		}
	}
	return errors.Join(askAll(ctx, ev, asks), each(pings, func(p pair) error { return ping(ctx, p.from, p.to, ev) }))
}
