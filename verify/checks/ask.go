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

// ask is one question to a nettool server and what its answer must say.
type ask struct {
	from field.Peer
	to   netip.AddrPort
	udp  netip.AddrPort // where UDP is asked for; the zero value: as to
	name string         // of to, as evidence calls it
	// by lists who may answer, nil anybody.
	by []field.Peer
	// client returns the address the answering server must have seen. nil: any.
	client func(answeredBy field.Peer) (netip.Addr, error)
	// itself is what a client that is answered by itself over UDP has seen in place of its own address; the zero
	// value: nothing else.
	itself netip.Addr
}

// between is the question that one peer of a pair asks the other at its own address.
func between(p field.Pair) ask {
	return ask{from: p.From, to: p.To.At(), name: p.To.Name, by: []field.Peer{p.To}, client: own(p.From)}
}

// overUDP is where UDP is asked for.
func (a ask) overUDP() netip.AddrPort {
	if a.udp.IsValid() {
		return a.udp
	}
	return a.to
}

// over asks by HTTP or UDP and records what came back. The error says that it
// was not able to ask.
func (a ask) over(ctx context.Context, protocol string, ev *verify.Evidence) error {
	if !a.to.IsValid() || a.to.Port() == 0 {
		return fmt.Errorf("%s has no address and port to ask", a.name)
	}
	at := a.to
	request := probe.Request{Timeout: probe.Duration(field.AskTimeout)}
	if protocol == "udp" {
		at = a.overUDP()
		request.UDP = &probe.UDP{Address: at}
	} else {
		request.HTTP = &probe.HTTP{URL: field.URL(at), RequestTimeout: probe.Duration(field.AskTimeout)}
	}
	what := fmt.Sprintf("%s -> %s (%s %s)", a.from.Name, a.name, protocol, at)
	reply, ok, err := sent(ctx, a.from, what, request, ev)
	if err != nil || !ok {
		return err
	}
	id := answerOf(reply)
	if id == nil {
		return fmt.Errorf("%s: the reply names nobody", what)
	}
	return a.judge(what, *id, protocol == "udp", ev)
}

// answerOf returns who answered a probe, nil when the reply does not say.
func answerOf(reply probe.Reply) *probe.Identity {
	switch {
	case reply.HTTP != nil:
		return reply.HTTP.Identity
	case reply.UDP != nil:
		return reply.UDP.Identity
	case reply.TCP != nil:
		return reply.TCP.Identity
	}
	return nil
}

func (a ask) judge(what string, id probe.Identity, udp bool, ev *verify.Evidence) error {
	by, known := find(a.by, id.Pod)
	if len(a.by) > 0 && !known {
		ev.Wrong(what, "an answer by "+names(a.by), "answered by "+id.Pod)
		return nil
	}
	if a.client == nil {
		ev.Saw("%s: answered by %s", what, id.Pod)
		return nil
	}
	want, err := a.client(by)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if udp && by.Name == a.from.Name && want == a.from.Addr && a.itself.IsValid() {
		want = a.itself
	}
	ev.Expect(id.Client.Addr() == want, what, fmt.Sprintf("client %s", want), fmt.Sprintf("answered by %s, which saw client %s", cmp.Or(id.Pod, a.name), id.Client.Addr()))
	return nil
}

// find looks a peer up by the name nettool gives itself in its answers.
func find(peers []field.Peer, pod string) (field.Peer, bool) {
	i := slices.IndexFunc(peers, func(h field.Peer) bool { return h.Self == pod })
	if i < 0 {
		return field.Peer{}, false
	}
	return peers[i], true
}

func names(peers []field.Peer) string {
	var all []string
	for _, h := range peers {
		all = append(all, h.Self)
	}
	return strings.Join(all, " or ")
}

// own is the client address of a peer whose packets nobody translates.
func own(h field.Peer) func(field.Peer) (netip.Addr, error) {
	return func(field.Peer) (netip.Addr, error) {
		if !h.Addr.IsValid() {
			return netip.Addr{}, errors.New(h.Name + " has no address")
		}
		return h.Addr, nil
	}
}

// through is the client address a backend sees when kube-proxy on node has
// hidden the client behind an address of the node: that of the device the
// packet leaves by, which is the router's towards the node's own pods, and
// towards others the NIC's, or the router's, too, where a tunnel leads to them.
func through(ctx context.Context, env *field.Env, node *field.Node) func(field.Peer) (netip.Addr, error) {
	return func(backend field.Peer) (netip.Addr, error) {
		if backend.Node == node.Node || env.Tunnel != nil {
			return env.RouterOf(ctx, node)
		}
		return node.Addr, nil
	}
}

// askAll asks everything over both protocols at once.
func askAll(ctx context.Context, ev *verify.Evidence, asks []ask) error {
	return verify.Each(asks, func(a ask) error {
		return verify.Each([]string{"http", "udp"}, func(protocol string) error { return a.over(ctx, protocol, ev) })
	})
}

// ping sends three echo requests; every one must be answered by its addressee.
func (a ask) ping(ctx context.Context, ev *verify.Evidence) error {
	const count = 3
	to := a.to.Addr()
	what := fmt.Sprintf("%s -> %s (icmp %s)", a.from.Name, a.name, to)
	reply, ok, err := sent(ctx, a.from, what, probe.Request{ICMP: &probe.ICMP{Address: to, Count: count}}, ev)
	if err != nil || !ok {
		return err
	}
	r := reply.ICMP
	ev.Expect(r.Received == count && r.From == to, what, fmt.Sprintf("%d answers by %s", count, to), fmt.Sprintf("%d of %d answered by %s, TTL %d", r.Received, count, r.From, r.TTL))
	return nil
}

// sent evaluates a probe whose reply needs no look inside.
func sent(ctx context.Context, from field.Peer, what string, request probe.Request, ev *verify.Evidence) (probe.Reply, bool, error) {
	reply, err := from.Probe(ctx, request)
	if err != nil {
		return reply, false, err
	}
	if reply.Failure != "" {
		ev.Wrong(what, "an answer", reply.Failure)
		return reply, false, nil
	}
	return reply, true, nil
}
