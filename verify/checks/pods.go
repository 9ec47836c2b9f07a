package checks

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
	"wirelab.dev/wirelab/verify/probe"
)

// bulk is how many bytes a TCP check sends each way: enough for the window to
// open and segments to be merged.
const bulk = 1 << 20

// placement is where the two pods of a pair are.
type placement struct {
	name, words string
	pairs       func(*field.Env) []field.Pair
	minNodes    int
	told        string // which packets that are larger than what passes whole do not
}

func podChecks(env *field.Env) []verify.Check {
	var checks []verify.Check
	for _, p := range []placement{
		{"same-node", "two pods on one node", (*field.Env).SameNode, 1, "than the interface takes"},
		{"across-nodes", "pods on two nodes, for every ordered pair of nodes", (*field.Env).AcrossNodes, 2, "do: through a tunnel their sender is told what fits"},
	} {
		checks = append(checks,
			pairCheck(env, "pods/icmp-"+p.name, "Echo requests between "+p.words+" are answered.", p, []verify.Part{verify.Pods}, pairICMP),
			pairCheck(env, "pods/tcp-"+p.name, "A megabyte goes both ways unchanged over TCP between "+p.words+", and the client's own address arrives.", p, []verify.Part{verify.Pods}, pairTCP),
			pairCheck(env, "pods/udp-"+p.name, "Datagrams between "+p.words+" are answered, and the client's own address arrives.", p, []verify.Part{verify.Pods}, pairUDP),
			pairCheck(env, "pods/mtu-"+p.name, "Packets as large as the NIC's MTU, or 50 bytes less where there is a tunnel, pass whole between "+p.words+", and no larger ones "+p.told+".", p, []verify.Part{verify.Nodes, verify.Pods}, pairMTU),
		)
	}
	return append(checks,
		verify.Check{Name: "pods/to-nodes", Needs: []verify.Part{verify.Nodes, verify.Pods}, Claim: "Every pod reaches every node by ICMP, TCP and UDP, with its own address.", Run: look(env, podsToNodes)},
		verify.Check{Name: "nodes/to-pods", Needs: []verify.Part{verify.Nodes, verify.Pods}, Claim: "Every node reaches every pod by ICMP, TCP and UDP, with its own address.", Run: look(env, nodesToPods)},
	)
}

func pairCheck(env *field.Env, name, claim string, p placement, needs []verify.Part, judge func(context.Context, *field.Env, field.Pair, *verify.Evidence) error) verify.Check {
	return verify.Check{Name: name, Claim: claim, Needs: needs, MinNodes: p.minNodes, Run: look(env, func(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
		return verify.Each(p.pairs(env), func(each field.Pair) error {
			if !each.To.Addr.IsValid() {
				return fmt.Errorf("%s: %s has no address", each, each.To.Name)
			}
			return judge(ctx, env, each, ev)
		})
	})}
}

func pairICMP(ctx context.Context, _ *field.Env, p field.Pair, ev *verify.Evidence) error {
	return between(p).ping(ctx, ev)
}

func pairTCP(ctx context.Context, _ *field.Env, p field.Pair, ev *verify.Evidence) error {
	what := fmt.Sprintf("%s (tcp %s)", p, p.To.At())
	reply, ok, err := sent(ctx, p.From, what, probe.Request{Timeout: probe.Duration(2 * field.AskTimeout), TCP: &probe.TCP{Address: p.To.At(), Bytes: bulk}}, ev)
	if err != nil || !ok {
		return err
	}
	if reply.TCP.Up != bulk || reply.TCP.Down != bulk || reply.TCP.Identity == nil {
		ev.Wrong(what, fmt.Sprintf("%d bytes each way, and the server's name", bulk), fmt.Sprintf("%d bytes went up and %d came down", reply.TCP.Up, reply.TCP.Down))
		return nil
	}
	return between(p).judge(what, *reply.TCP.Identity, false, ev)
}

func pairUDP(ctx context.Context, _ *field.Env, p field.Pair, ev *verify.Evidence) error {
	return between(p).over(ctx, "udp", ev)
}

// Header bytes of an IPv4 packet that are not the payload of an echo request
// or of a datagram.
const headers = 20 + 8

// pairMTU also sends one byte more than the MTU: only where that is refused
// did the other packets prove that the MTU is what it is said to be.
func pairMTU(ctx context.Context, env *field.Env, p field.Pair, ev *verify.Evidence) error {
	mtu, err := wantedMTU(ctx, env, p)
	if err != nil {
		return err
	}
	dev, err := env.DeviceOf(ctx, p.From, "eth0")
	if err != nil {
		return err
	}
	if !ev.Expect(dev.MTU == mtu, p.From.Name+": MTU of eth0", fmt.Sprint(mtu), fmt.Sprint(dev.MTU)) {
		return nil
	}
	// Behind a tunnel a pod's route says for all other pods what fits through it.
	fits, tunneled := mtu, env.Tunnel != nil && p.From.Node != p.To.Node
	if env.Tunnel != nil {
		fits -= field.TunnelOverhead
	}
	if tunneled {
		mtu = fits
	}
	what := fmt.Sprintf("%s with DF and %d bytes", p, fits)
	size := fits - headers
	_, okICMP, errICMP := sent(ctx, p.From, what+" (icmp)", probe.Request{ICMP: &probe.ICMP{Address: p.To.Addr, Size: size, DF: true, Count: 2}}, ev)
	_, okUDP, errUDP := sent(ctx, p.From, what+" (udp)", probe.Request{UDP: &probe.UDP{Address: p.To.At(), Size: size, DF: true, Count: 2}}, ev)
	if err := errors.Join(errICMP, errUDP); err != nil {
		return err
	}
	if okICMP && okUDP {
		ev.Saw("%s: answered", what)
	}
	over, err := p.From.Probe(ctx, probe.Request{ICMP: &probe.ICMP{Address: p.To.Addr, Size: mtu + 1 - headers, DF: true}})
	if err != nil {
		return err
	}
	about := fmt.Sprintf("%s with DF and %d bytes", p, mtu+1)
	if over.Failure == "" {
		ev.Wrong(about, "no answer, as they are more than the MTU", "answered")
		return nil
	}
	if tunneled {
		named := 0
		if over.ICMP != nil {
			named = over.ICMP.MTU
		}
		ev.Expect(named == mtu, about, fmt.Sprintf("an answer that names the MTU %d", mtu), over.Failure)
		return nil
	}
	ev.Saw("%s: %s", about, over.Failure)
	return nil
}

// wantedMTU is what the profile asks for, else the smaller of the NICs of the
// two pods' nodes.
func wantedMTU(ctx context.Context, env *field.Env, p field.Pair) (int, error) {
	if env.MTU != 0 {
		return env.MTU, nil
	}
	least := 0
	for _, pod := range []field.Peer{p.From, p.To} {
		nic, err := env.NICOf(ctx, env.NodeOf(pod))
		if err != nil {
			return 0, err
		}
		least = min(cmp.Or(least, nic.MTU), nic.MTU)
	}
	return least, nil
}

func podsToNodes(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
	return askEachWay(ctx, env, ev, func(from, to *field.Node) ask {
		return ask{from: from.Client, to: to.At(), name: to.Name, client: own(from.Client)}
	})
}

func nodesToPods(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
	return askEachWay(ctx, env, ev, func(from, to *field.Node) ask {
		return between(field.Pair{From: from.Peer, To: to.Server})
	})
}

// askEachWay asks from every node to every node, and sends echo requests there.
func askEachWay(ctx context.Context, env *field.Env, ev *verify.Evidence, way func(from, to *field.Node) ask) error {
	var asks []ask
	for _, from := range env.Nodes {
		for _, to := range env.Nodes {
			asks = append(asks, way(from, to))
		}
	}
	return errors.Join(askAll(ctx, ev, asks), verify.Each(asks, func(a ask) error { return a.ping(ctx, ev) }))
}
