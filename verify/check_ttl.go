package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"wirelab.dev/wirelab/verify/probe"
)

func ttlChecks() []Check {
	return []Check{
		{
			Name: "paths/hops-same-node", Modes: []string{modeKubeProxy, modeReplacement},
			Claim: "Between pods on one node a packet crosses both host-side veths and no NIC, and is forwarded once: TTL 64 becomes 63.",
			Run: func(ctx context.Context, env *Env, ev *Evidence) error {
				return each(env.Nodes, func(n *Node) error { return traceHops(ctx, env, pair{n.Client, n.Server}, ev) })
			},
		},
		{
			Name: "paths/hops-across-nodes", MinNodes: 2, Modes: []string{modeKubeProxy, modeReplacement},
			Claim: "Between pods on two nodes a packet crosses both host-side veths and both NICs, and is forwarded twice: TTL 64 becomes 63 on the wire and 62 in the pod.",
			Run: func(ctx context.Context, env *Env, ev *Evidence) error {
				return each(env.acrossNodes(), func(p pair) error { return traceHops(ctx, env, p, ev) })
			},
		},
	}
}

// point is a device where packets are watched. requests and replies are the
// TTLs to be seen there, in order; none means that nothing may be seen.
type point struct {
	name              string
	host              Host
	device            string
	requests, replies []int
}

// hops lists the points of the way from one pod to another with host routing
// by the kernel, as the design's table has them: a NIC shows a packet on its
// way out of one node and again on its way into the other, each once.
func hops(ctx context.Context, env *Env, p pair) ([]point, error) {
	fromNode, _, fromVeth, err := hostSide(ctx, env, p.from)
	if err != nil {
		return nil, err
	}
	toNode, _, toVeth, err := hostSide(ctx, env, p.to)
	if err != nil {
		return nil, err
	}
	fromNIC, err := nicOf(ctx, fromNode)
	if err != nil {
		return nil, err
	}
	toNIC, err := nicOf(ctx, toNode)
	if err != nil {
		return nil, err
	}
	if fromNode == toNode {
		return []point{
			{"client pod eth0", p.from, "eth0", []int{64}, []int{63}},
			{"client's host-side veth", fromNode.Host, fromVeth.Name, []int{64}, []int{63}},
			{"node NIC", fromNode.Host, fromNIC.Name, nil, nil},
			{"server's host-side veth", toNode.Host, toVeth.Name, []int{63}, []int{64}},
			{"server pod eth0", p.to, "eth0", []int{63}, []int{64}},
		}, nil
	}
	return []point{
		{"client pod eth0", p.from, "eth0", []int{64}, []int{62}},
		{"client's host-side veth", fromNode.Host, fromVeth.Name, []int{64}, []int{62}},
		{"client's node NIC", fromNode.Host, fromNIC.Name, []int{63}, []int{63}},
		{"server's node NIC", toNode.Host, toNIC.Name, []int{63}, []int{63}},
		{"server's host-side veth", toNode.Host, toVeth.Name, []int{62}, []int{64}},
		{"server pod eth0", p.to, "eth0", []int{62}, []int{64}},
	}, nil
}

// traceHops watches every point while one echo request goes and its reply
// comes back.
func traceHops(ctx context.Context, env *Env, p pair, ev *Evidence) error {
	points, err := hops(ctx, env, p)
	if err != nil {
		return err
	}
	marker := newMarker()
	watches := make([]Running, len(points))
	for i, at := range points {
		watches[i], err = at.host.Start(ctx, probe.Request{Timeout: watchTimeout, Capture: &probe.Capture{
			Interface: at.device, Filter: probe.Filter{Protocol: "icmp", Contains: marker},
		}})
		if err != nil {
			return err
		}
	}
	_, _, pingErr := sent(ctx, p.from, p.String(), probe.Request{ICMP: &probe.ICMP{Address: p.to.Addr, Marker: marker}}, ev)
	errs := []error{pingErr}
	for i, at := range points {
		seen, err := watches[i].Stop(ctx)
		errs = append(errs, err)
		if err == nil && pingErr == nil {
			judgePoint(ev, p.String(), at, seen.Capture.Packets)
		}
	}
	return errors.Join(errs...)
}

// Types of an ICMP message.
const (
	icmpEchoReply   = 0
	icmpEchoRequest = 8
)

func judgePoint(ev *Evidence, what string, at point, packets []probe.Packet) {
	var requests, replies []int
	for _, p := range packets {
		switch p.ICMPType {
		case icmpEchoRequest:
			requests = append(requests, p.TTL)
		case icmpEchoReply:
			replies = append(replies, p.TTL)
		}
	}
	right := slices.Equal(requests, at.requests) && slices.Equal(replies, at.replies)
	got, want := cell(requests, replies), cell(at.requests, at.replies)
	if right {
		ev.Saw("%s: %s (%s): %s", what, at.name, at.device, got)
		return
	}
	ev.Wrong("%s: %s (%s): %s, to be %s", what, at.name, at.device, got, want)
}

// cell writes what was seen as the design's table does: "R[64] P[63]".
func cell(requests, replies []int) string {
	var words []string
	for _, ttl := range requests {
		words = append(words, fmt.Sprintf("R[%d]", ttl))
	}
	for _, ttl := range replies {
		words = append(words, fmt.Sprintf("P[%d]", ttl))
	}
	if len(words) == 0 {
		return "-"
	}
	return strings.Join(words, " ")
}
