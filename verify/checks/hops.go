package checks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
	"wirelab.dev/wirelab/verify/probe"
)

func hopChecks(env *field.Env) []verify.Check {
	return []verify.Check{
		{
			Name: "paths/hops-same-node", Needs: []verify.Part{verify.Nodes, verify.Pods, verify.Outside},
			Claim: "Between pods on one node, echo requests, their replies and a TCP exchange are seen at each device as the path table says, with its TTLs and MACs, and nowhere else.",
			Run: look(env, func(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
				return verify.Each(env.Nodes, func(n *field.Node) error { return traceHops(ctx, env, field.Pair{From: n.Client, To: n.Server}, ev) })
			}),
		},
		{
			Name: "paths/hops-across-nodes", Needs: []verify.Part{verify.Nodes, verify.Pods}, MinNodes: 2,
			Claim: "Between pods on two nodes, echo requests, their replies and a TCP exchange are seen at each device as the path table says, with its TTLs and MACs, and nowhere else.",
			Run: look(env, func(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
				return verify.Each(env.AcrossNodes(), func(p field.Pair) error { return traceHops(ctx, env, p, ev) })
			}),
		},
	}
}

// Rows of the path table: where packets are watched, in the order of their way.
const (
	atClientPod  = "client pod eth0"
	atClientVeth = "client's host-side veth"
	atNICs       = "node NICs"
	atTunnels    = "tunnel devices"
	atServerVeth = "server's host-side veth"
	atServerPod  = "server pod eth0"
)

// sight is what is to be seen at one point: the TTL of requests and that of
// replies there. 0 means that none may be seen.
type sight struct{ requests, replies int }

// pathColumn is a column of the path table. Where there is a tunnel, NICs have what goes to another node in its packets.
func pathColumn(mode string, tunnel, sameNode bool) map[string]sight {
	switch byBPF := mode == verify.ModeEBPF; {
	case tunnel && !sameNode && byBPF:
		return map[string]sight{
			atClientPod: {64, 63}, atClientVeth: {64, 0}, atTunnels: {64, 64}, atNICs: {64, 64}, atServerVeth: {0, 64}, atServerPod: {63, 64},
		}
	case tunnel && !sameNode:
		return map[string]sight{
			atClientPod: {64, 63}, atClientVeth: {64, 63}, atTunnels: {64, 64}, atNICs: {64, 64}, atServerVeth: {63, 64}, atServerPod: {63, 64},
		}
	case byBPF && sameNode:
		return map[string]sight{
			atClientPod: {64, 63}, atClientVeth: {64, 0}, atNICs: {}, atServerVeth: {0, 64}, atServerPod: {63, 64},
		}
	case byBPF:
		return map[string]sight{
			atClientPod: {64, 62}, atClientVeth: {64, 0}, atNICs: {63, 63}, atServerVeth: {0, 64}, atServerPod: {62, 64},
		}
	case sameNode:
		return map[string]sight{
			atClientPod: {64, 63}, atClientVeth: {64, 63}, atNICs: {}, atServerVeth: {63, 64}, atServerPod: {63, 64},
		}
	default:
		return map[string]sight{
			atClientPod: {64, 62}, atClientVeth: {64, 62}, atNICs: {63, 63}, atServerVeth: {62, 64}, atServerPod: {62, 64},
		}
	}
}

// point is a device where packets are watched. request and reply are the MACs
// of frames there, source and destination.
type point struct {
	row            string
	peer           field.Peer
	device         string
	request, reply [2]string
	want           sight
	tunnel         *probe.Tunnel // whose packets what is wanted is in; nil: it goes as it is
}

// pointsOf lists the devices on the way from one pod to another.
func pointsOf(ctx context.Context, env *field.Env, p field.Pair) ([]point, error) {
	fromNode, fromEth0, fromVeth, err := env.HostSide(ctx, p.From)
	if err != nil {
		return nil, err
	}
	toNode, toEth0, toVeth, err := env.HostSide(ctx, p.To)
	if err != nil {
		return nil, err
	}
	fromNIC, err := env.NICOf(ctx, fromNode)
	if err != nil {
		return nil, err
	}
	out, in := [2]string{fromEth0.MAC, fromVeth.MAC}, [2]string{toVeth.MAC, toEth0.MAC}
	points := []point{
		{row: atClientPod, peer: p.From, device: "eth0", request: out},
		{row: atClientVeth, peer: fromNode.Peer, device: fromVeth.Name, request: out},
		{row: atNICs, peer: fromNode.Peer, device: fromNIC.Name},
		{row: atServerVeth, peer: toNode.Peer, device: toVeth.Name, request: in},
		{row: atServerPod, peer: p.To, device: "eth0", request: in},
	}
	if fromNode != toNode {
		toNIC, err := env.NICOf(ctx, toNode)
		if err != nil {
			return nil, err
		}
		points[2].request = [2]string{fromNIC.MAC, toNIC.MAC}
		points = slices.Insert(points, 3, point{row: atNICs, peer: toNode.Peer, device: toNIC.Name, request: points[2].request})
		if env.Tunnel != nil {
			points[2].tunnel, points[3].tunnel = &env.Tunnel.Tunnel, &env.Tunnel.Tunnel
			points = slices.Insert(points, 2, point{row: atTunnels, peer: fromNode.Peer, device: env.Tunnel.Device}, point{row: atTunnels, peer: toNode.Peer, device: env.Tunnel.Device})
		}
	}
	column := pathColumn(env.Mode, env.Tunnel != nil, fromNode == toNode)
	for i := range points {
		points[i].reply = [2]string{points[i].request[1], points[i].request[0]}
		points[i].want = column[points[i].row]
	}
	return points, nil
}

// trace is one watched exchange.
type trace struct {
	field.Flow
	control netip.Addr // source of the packets that every NIC shows
}

// traceHops watches every point while an echo request goes and its reply comes
// back, and a TCP connection is made, used and closed.
func traceHops(ctx context.Context, env *field.Env, p field.Pair, ev *verify.Evidence) (err error) {
	points, err := pointsOf(ctx, env, p)
	if err != nil {
		return err
	}
	server, stop, err := field.ServeAlone(ctx, p.To)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	fromNode := env.NodeOf(p.From)
	t := trace{Flow: field.Flow{Pair: p, Marker: field.NewMarker(), Server: server}, control: fromNode.Addr}
	watches := make([]field.Running, len(points))
	for i, at := range points {
		if watches[i], err = at.peer.Start(ctx, t.capture(at)); err != nil {
			return err
		}
	}
	sendErr := t.send(ctx, env, fromNode, ev)
	errs := []error{sendErr}
	for i, at := range points {
		seen, err := watches[i].Stop(ctx)
		errs = append(errs, err)
		if err == nil && sendErr == nil {
			errs = append(errs, t.judge(ev, at, seen.Capture))
		}
	}
	return errors.Join(errs...)
}

func (t trace) capture(at point) probe.Request {
	return probe.Request{Timeout: watchTimeout, Capture: &probe.Capture{
		Interface: at.device, Tunnel: at.tunnel, Filter: t.Filters("icmp")[0], Also: t.Filters("tcp"),
	}}
}

// send sends what is watched. On one node it also sends a packet that the NIC
// must show: what the NIC does not show then was not there.
func (t trace) send(ctx context.Context, env *field.Env, fromNode *field.Node, ev *verify.Evidence) error {
	_, _, err := sent(ctx, t.From, t.String(), probe.Request{ICMP: &probe.ICMP{Address: t.To.Addr, Marker: t.Marker}}, ev)
	if err != nil {
		return err
	}
	_, _, err = sent(ctx, t.From, t.String()+" (tcp)", probe.Request{HTTP: &probe.HTTP{URL: field.URL(t.Server), RequestTimeout: probe.Duration(field.AskTimeout)}}, ev)
	if err != nil || !t.SameNode() {
		return err
	}
	what := fromNode.Name + " -> " + env.Outside.Name
	_, _, err = sent(ctx, fromNode.Peer, what, probe.Request{ICMP: &probe.ICMP{Address: env.Outside.Addr, Marker: t.Marker}}, ev)
	return err
}

// judge compares one point's packets with the table.
func (t trace) judge(ev *verify.Evidence, at point, seen *probe.CaptureResult) error {
	where := fmt.Sprintf("%s: %s (%s of %s)", t, at.row, at.device, at.peer.Name)
	if seen.Lost > 0 {
		return fmt.Errorf("%s: the kernel kept %d packets from the capture", where, seen.Lost)
	}
	isControl := func(p probe.Packet) bool { return p.Source == t.control || p.Destination == t.control }
	packets := slices.DeleteFunc(slices.Clone(seen.Packets), isControl)
	if t.SameNode() && at.row == atNICs && len(packets) == len(seen.Packets) {
		return fmt.Errorf("%s: not even a packet of the node itself was seen, so the absence of others proves nothing", where)
	}
	for _, protocol := range []string{"icmp", "tcp"} {
		ofProtocol := slices.DeleteFunc(slices.Clone(packets), func(p probe.Packet) bool { return p.Protocol != protocol })
		t.judgeCell(ev, where, at, protocol, ofProtocol)
	}
	return nil
}

func (t trace) judgeCell(ev *verify.Evidence, where string, at point, protocol string, packets []probe.Packet) {
	requests, replies := split(packets, t.To.Addr)
	got, want := at.cell(requests, replies, protocol == "icmp"), at.words(at.want)
	about := where + ", " + protocol
	ev.Cell(at.row, columnName(t.SameNode(), protocol), got, want)
	if !ev.Expect(got == want, about, want, got) || at.request[0] == "" {
		return
	}
	for _, wrong := range append(wrongMACs(requests, at.request), wrongMACs(replies, at.reply)...) {
		ev.Wrong(about, wrong.want, wrong.got)
	}
}

// columnName heads a column of the path table.
func columnName(sameNode bool, protocol string) string {
	where := "across nodes"
	if sameNode {
		where = "same node"
	}
	return where + ", " + strings.ToUpper(protocol)
}

// split tells what goes to server from what comes from there.
func split(packets []probe.Packet, server netip.Addr) (requests, replies []probe.Packet) {
	for _, p := range packets {
		if p.Destination == server {
			requests = append(requests, p)
		} else {
			replies = append(replies, p)
		}
	}
	return requests, replies
}

// frames are MACs in words: those wanted, and others that there were.
type frames struct{ want, got string }

// wrongMACs says which frames do not have the MACs that they should.
func wrongMACs(packets []probe.Packet, want [2]string) []frames {
	var wrong []frames
	for _, p := range packets {
		got := [2]string{p.SourceMAC, p.DestMAC}
		if p.Outer != nil {
			got = [2]string{p.Outer.SourceMAC, p.Outer.DestMAC}
		}
		words := frames{fmt.Sprintf("frames from %s to %s", want[0], want[1]), fmt.Sprintf("a frame from %s to %s", got[0], got[1])}
		if got != want && !slices.Contains(wrong, words) {
			wrong = append(wrong, words)
		}
	}
	return wrong
}

// words writes a sight as the path table does: "R[64] P[63]", or "R[64 in vxlan]".
func (at point) words(s sight) string {
	var words []string
	if s.requests > 0 {
		words = append(words, at.word("R", s.requests, at.tunnel != nil))
	}
	if s.replies > 0 {
		words = append(words, at.word("P", s.replies, at.tunnel != nil))
	}
	return cmp.Or(strings.Join(words, " "), "-")
}

// cell writes what was seen, each TTL once. One echo request is sent, so with
// once set every further packet is written too.
func (at point) cell(requests, replies []probe.Packet, once bool) string {
	var words []string
	add := func(letter string, packets []probe.Packet) {
		for _, p := range packets {
			if word := at.word(letter, p.TTL, p.Outer != nil); once || !slices.Contains(words, word) {
				words = append(words, word)
			}
		}
	}
	add("R", requests)
	add("P", replies)
	return cmp.Or(strings.Join(words, " "), "-")
}

func (at point) word(letter string, ttl int, tunneled bool) string {
	if tunneled {
		return fmt.Sprintf("%s[%d in %s]", letter, ttl, at.tunnel.Protocol)
	}
	return fmt.Sprintf("%s[%d]", letter, ttl)
}
