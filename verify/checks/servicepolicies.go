package checks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
	"wirelab.dev/wirelab/verify/probe"
)

func policyChecks(env *field.Env) []verify.Check {
	return []verify.Check{
		{Name: "services/affinity", Needs: []verify.Part{verify.Services, verify.Outside}, MinNodes: 2, Claim: "With sessionAffinity ClientIP a pod, a node and a host outside each keep the backend they were first given.", Run: lookAtServices(env, affinity)},
		{Name: "services/local-external", Needs: []verify.Part{verify.Services, verify.Outside}, Claim: "With externalTrafficPolicy Local a nodePort leads to a backend of the node asked, which sees the address of the client outside; a node without one answers nobody.", Run: lookAtServices(env, onEachNode(localExternal))},
		{Name: "services/local-internal", Needs: []verify.Part{verify.Services}, Claim: "With internalTrafficPolicy Local a ClusterIP leads pods to a backend of their own node; on a node without one nobody answers.", Run: lookAtServices(env, onEachNode(localInternal))},
		{Name: "services/health-port", Needs: []verify.Part{verify.Services, verify.Outside}, Claim: "At the health-check nodePort every node says whether it has a backend of its own: 200 or 503.", Run: lookAtServices(env, healthPort)},
		{Name: "services/no-endpoints", Needs: []verify.Part{verify.Services, verify.Native}, Claim: "A Service without endpoints refuses TCP and UDP at once: from pods and nodes at its ClusterIP, from outside at its nodePort on every node.", Run: lookAtServices(env, noEndpoints)},
	}
}

// everywhere asks for a Service's ClusterIP for a pod and for every
// node itself, and its nodePort on every node for the host outside.
func everywhere(ctx context.Context, env *field.Env, s field.Service) []ask {
	var all []ask
	for _, node := range env.Nodes {
		all = append(all,
			ask{from: node.Client, to: s.At(), name: "Service " + s.Name},
			ask{from: node.Peer, to: s.At(), name: "Service " + s.Name},
			nodePortAt(ctx, env, env.Outside, s, node))
	}
	return all
}

// affinity asks so often that backends chosen at random would all be the same
// less than once in a hundred thousand runs: three backends, twelve requests.
func affinity(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
	const times = 12
	return verify.Each(everywhere(ctx, env, env.Sticky), func(a ask) error {
		what := fmt.Sprintf("%s -> %s (%s)", a.from.Name, a.name, a.to)
		request := probe.Request{Timeout: probe.Duration(field.AskTimeout), HTTP: &probe.HTTP{URL: field.URL(a.to), Count: times}}
		reply, ok, err := sent(ctx, a.from, what, request, ev)
		if err != nil || !ok {
			return err
		}
		ev.Expect(len(reply.HTTP.AnsweredBy) == 1, what, "answers by one backend", fmt.Sprintf("%d connections were answered by %v", times, reply.HTTP.AnsweredBy))
		return nil
	})
}

func localExternal(ctx context.Context, env *field.Env, node *field.Node, ev *verify.Evidence) error {
	a := nodePortAt(ctx, env, env.Outside, env.Local, node)
	a.client = own(env.Outside)
	return a.onlyWhereBacked(ctx, env.Local, node, ev)
}

func localInternal(ctx context.Context, env *field.Env, node *field.Node, ev *verify.Evidence) error {
	s := env.Local
	// Not the backend itself, which some modes give an address other than its own.
	a := ask{from: node.Server, to: s.At(), name: "Service " + s.Name, by: s.Backends, client: own(node.Server)}
	return a.onlyWhereBacked(ctx, s, node, ev)
}

// onlyWhereBacked wants an answer where the node has a backend of the Service, and none elsewhere.
func (a ask) onlyWhereBacked(ctx context.Context, s field.Service, node *field.Node, ev *verify.Evidence) error {
	if s.HasBackend(node) {
		return askAll(ctx, ev, []ask{a})
	}
	return a.unanswered(ctx, ev)
}

// silence is how long nobody has to answer: on one machine an answer takes
// milliseconds. That they do come is seen at the node that has a backend.
const silence = probe.Duration(700 * time.Millisecond)

// unanswered wants no answer, neither over TCP nor over UDP.
func (a ask) unanswered(ctx context.Context, ev *verify.Evidence) error {
	return verify.Each([]probe.Request{
		{Timeout: silence, HTTP: &probe.HTTP{URL: field.URL(a.to), RequestTimeout: silence}},
		{Timeout: silence, UDP: &probe.UDP{Address: a.overUDP()}},
	}, func(request probe.Request) error {
		reply, err := a.from.Probe(ctx, request)
		if err != nil {
			return err
		}
		kind, err := request.Kind()
		if err != nil {
			return err
		}
		what := fmt.Sprintf("%s -> %s (%s)", a.from.Name, a.name, kind)
		if id := answerOf(reply); reply.Failure == "" && id != nil {
			ev.Wrong(what, "no answer", "answered by "+id.Pod)
			return nil
		}
		if reply.Failure == "" {
			ev.Wrong(what, "no answer", "an answer that names nobody")
			return nil
		}
		ev.Saw("%s: %s", what, reply.Failure)
		return nil
	})
}

func healthPort(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
	s := env.Local
	if s.HealthPort == 0 {
		return errors.New("Service " + s.Name + " has no health-check nodePort")
	}
	return verify.Each(env.Nodes, func(node *field.Node) error {
		at := netip.AddrPortFrom(node.Addr, s.HealthPort)
		reply, err := env.Outside.Probe(ctx, probe.Request{Timeout: probe.Duration(field.AskTimeout), HTTP: &probe.HTTP{URL: field.URL(at)}})
		if err != nil {
			return err
		}
		want := http.StatusServiceUnavailable
		if s.HasBackend(node) {
			want = http.StatusOK
		}
		// Who answers is no nettool, so only the status counts.
		if reply.HTTP == nil || reply.HTTP.Status == 0 {
			ev.Wrong(fmt.Sprintf("%s at %s", node.Name, at), fmt.Sprintf("status %d", want), reply.Failure)
			return nil
		}
		ev.Expect(reply.HTTP.Status == want, fmt.Sprintf("%s at %s", node.Name, at), fmt.Sprintf("status %d", want), fmt.Sprintf("status %d", reply.HTTP.Status))
		return nil
	})
}

// atOnce is how soon a refusal has to come; without one a client waits for
// seconds and more. It is less than the second after which TCP asks again.
const atOnce = 600 * time.Millisecond

// errorTries is how often a host outside asks where kube-proxy is and it has
// one address alone. Refusals are ICMP errors there: the kernel sends an address
// one in a second, and none in the second after a redirect, which it sends for
// nodePorts (net/ipv4/inetpeer.c, inet_peer_xrlim_allow).
const errorTries = 6

func noEndpoints(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
	return verify.Each(everywhere(ctx, env, env.Empty), func(a ask) error {
		tcp := probe.Request{Timeout: probe.Duration(atOnce), HTTP: &probe.HTTP{URL: field.URL(a.to), RequestTimeout: probe.Duration(atOnce)}}
		udp := probe.Request{Timeout: probe.Duration(atOnce), UDP: &probe.UDP{Address: a.overUDP()}}
		tries := 1
		switch {
		case a.from.Node != "":
		case env.Native.IsValid(): // an address that asks for no other nodePort
			tcp.HTTP.Source, udp.UDP.Source = env.Native, env.Native
		case !env.KubeProxyReplacement():
			tries = errorTries
		}
		// One after the other: they share what the kernel sends.
		return errors.Join(a.refused(ctx, tcp, tries, ev), a.refused(ctx, udp, tries, ev))
	})
}

// refused wants one of so many requests to be refused at once.
func (a ask) refused(ctx context.Context, request probe.Request, tries int, ev *verify.Evidence) error {
	kind, err := request.Kind()
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%s -> %s (%s)", a.from.Name, a.name, kind)
	refusal := fmt.Sprintf("a refusal within %s", atOnce)
	var last string
	for range tries {
		reply, err := a.from.Probe(ctx, request)
		if err != nil {
			return err
		}
		took := time.Duration(reply.Elapsed).Round(time.Millisecond)
		if id := answerOf(reply); reply.Failure == "" && id != nil {
			ev.Wrong(what, refusal, "answered by "+id.Pod)
			return nil
		}
		last = fmt.Sprintf("%s after %s", reply.Failure, took)
		if isRefusal(reply.Failure) && took < atOnce {
			ev.Saw("%s: %s", what, last)
			return nil
		}
	}
	ev.Wrong(what, refusal, last)
	return nil
}

// isRefusal knows what a socket says after a reset or an ICMP error, or when a
// rule of its own node has not let the packet out.
func isRefusal(failure string) bool {
	return strings.Contains(failure, "connection refused") || strings.Contains(failure, "operation not permitted")
}
