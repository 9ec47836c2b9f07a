package checks

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
	"wirelab.dev/wirelab/verify/probe"
)

// tracked is one flow to be looked for in nf_conntrack, as its first packet has it.
type tracked struct {
	protocol string
	from, to netip.AddrPort // ports are 0 for ICMP
	id       uint16         // of an echo request
}

func (t tracked) String() string {
	if t.protocol == "icmp" {
		return fmt.Sprintf("icmp %s -> %s, id %d", t.from.Addr(), t.to.Addr(), t.id)
	}
	return fmt.Sprintf("%s %s -> %s", t.protocol, t.from, t.to)
}

// conntrackScript lists the entries whose flow began at an address. conntrack
// tells on stderr how many there are.
func conntrackScript(source netip.Addr) []string {
	return []string{"conntrack", "-L", "-f", "ipv4", "-s", source.String()}
}

// entry finds the line of conntrack about t, empty when there is none.
func (t tracked) entry(text string) string {
	want := fmt.Sprintf("src=%s dst=%s sport=%d dport=%d ", t.from.Addr(), t.to.Addr(), t.from.Port(), t.to.Port())
	if t.protocol == "icmp" {
		want = fmt.Sprintf("src=%s dst=%s type=%d code=0 id=%d ", t.from.Addr(), t.to.Addr(), field.ICMPEchoRequest, t.id)
	}
	for line := range strings.Lines(text) {
		protocol, rest, _ := strings.Cut(line, " ")
		if protocol != t.protocol {
			continue
		}
		// The first tuple is that of the first packet, the second of its reply.
		if first := firstTuple.FindString(rest); first == want {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

var firstTuple = regexp.MustCompile(`src=\S+ dst=\S+ (sport=\d+ dport=\d+|type=\d+ code=\d+ id=\d+) `)

// trackedWay is where flows go and where entries of them are wanted.
type trackedWay struct {
	what string
	from field.Peer
	to   netip.AddrPort
	// at lists nodes to look at, want tells whether each has an entry.
	at   []*field.Node
	want bool
	// column of the path table; empty where it has none.
	column func(protocol string) string
}

// hostConntrack sends flows and looks for each in nf_conntrack of the nodes it
// crosses. A flow of each node's own must be there: what the same look does
// not find then is not there.
func hostConntrack(ctx context.Context, env *field.Env, flows []field.Flow, ev *verify.Evidence) error {
	for _, node := range env.Nodes {
		own := trackedWay{what: node.Name + " -> " + env.Outside.Name, from: node.Peer, to: env.Outside.At(), at: []*field.Node{node}, want: true}
		if ok, err := controlTracked(ctx, ev, own); !ok || err != nil {
			return err
		}
	}
	var ways []trackedWay
	for _, f := range flows {
		ways = append(ways, trackedPods(env, f))
	}
	for _, node := range env.Nodes {
		ways = append(ways, trackedWay{
			what: node.Client.Name + " -> " + env.Outside.Name, from: node.Client, to: env.Outside.At(), at: []*field.Node{node}, want: env.Mode != verify.ModeEBPF,
		})
	}
	return verify.Each(ways, func(way trackedWay) error { return judgeTracked(ctx, ev, way) })
}

func trackedPods(env *field.Env, f field.Flow) trackedWay {
	way := trackedWay{
		what: f.String(), from: f.From, to: f.Server, at: []*field.Node{env.NodeOf(f.From)}, want: env.Mode == verify.ModeKubeProxy && !f.SameNode(),
		column: func(protocol string) string { return columnName(f.SameNode(), protocol) },
	}
	if !f.SameNode() {
		way.at = append(way.at, env.NodeOf(f.To))
	}
	return way
}

// send sends one flow of each protocol. lost says why one was not answered.
func (way trackedWay) send(ctx context.Context) (sent []tracked, lost string, err error) {
	id := uint16(rand.N(1 << 16))
	echo := probe.Request{Send: &probe.Send{Protocol: "icmp", Source: way.from.Addr, Destination: way.to.Addr(), SourcePort: id, Payload: field.NewMarker()}}
	sent = append(sent, tracked{protocol: "icmp", from: netip.AddrPortFrom(way.from.Addr, 0), to: netip.AddrPortFrom(way.to.Addr(), 0), id: id})
	for _, request := range []probe.Request{
		echo,
		{Timeout: probe.Duration(field.AskTimeout), TCP: &probe.TCP{Address: way.to, Bytes: 1}},
		{Timeout: probe.Duration(field.AskTimeout), UDP: &probe.UDP{Address: way.to}},
	} {
		reply, err := way.from.Probe(ctx, request)
		if err != nil || reply.Failure != "" {
			return nil, reply.Failure, err
		}
		switch {
		case reply.TCP != nil:
			sent = append(sent, tracked{protocol: "tcp", from: reply.TCP.Local, to: way.to})
		case reply.UDP != nil:
			sent = append(sent, tracked{protocol: "udp", from: reply.UDP.Local, to: way.to})
		}
	}
	return sent, "", nil
}

// entriesAt looks for flows on a node.
func entriesAt(ctx context.Context, node *field.Node, from field.Peer, sent []tracked) ([]string, error) {
	text, err := field.Output(ctx, node.Peer, conntrackScript(from.Addr)...)
	if err != nil {
		return nil, err
	}
	entries := make([]string, len(sent))
	for i, t := range sent {
		entries[i] = t.entry(text)
	}
	return entries, nil
}

// controlTracked returns whether flows of a node's own were answered. The
// error says that conntrack does not show them.
func controlTracked(ctx context.Context, ev *verify.Evidence, way trackedWay) (bool, error) {
	sent, lost, err := way.send(ctx)
	if err != nil {
		return false, err
	}
	if lost != "" {
		ev.Wrong(way.what, "an answer", lost)
		return false, nil
	}
	entries, err := entriesAt(ctx, way.at[0], way.from, sent)
	if err != nil {
		return false, err
	}
	if i := slices.Index(entries, ""); i >= 0 {
		return false, fmt.Errorf("%s: conntrack does not show the node's own flow %s, so what it does not show of pods proves nothing", way.at[0].Name, sent[i])
	}
	return true, nil
}

func judgeTracked(ctx context.Context, ev *verify.Evidence, way trackedWay) error {
	sent, lost, err := way.send(ctx)
	if err != nil {
		return err
	}
	if lost != "" {
		ev.Wrong(way.what, "an answer", lost)
		return nil
	}
	words := map[bool]string{true: "yes", false: "no"}
	return verify.Each(way.at, func(node *field.Node) error {
		entries, err := entriesAt(ctx, node, way.from, sent)
		if err != nil {
			return err
		}
		for i, t := range sent {
			found := entries[i] != ""
			if way.column != nil && t.protocol != "udp" {
				ev.Cell("in nf_conntrack", way.column(t.protocol), words[found], words[way.want])
			}
			seen := "no entry"
			if found {
				seen = "the entry " + entries[i]
			}
			want := map[bool]string{true: "an entry of it", false: "no entry of it"}[way.want]
			ev.Expect(found == way.want, fmt.Sprintf("%s (%s), nf_conntrack of %s", way.what, t, node.Name), want, seen)
		}
		return nil
	})
}
