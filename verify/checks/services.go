package checks

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
	"wirelab.dev/wirelab/verify/probe"
)

func serviceChecks(env *field.Env) []verify.Check {
	return []verify.Check{
		{Name: "services/clusterip-from-pods", Needs: []verify.Part{verify.Services}, Claim: "Every pod reaches a Service by its ClusterIP over TCP and UDP, on whatever node the backend is, with its own address.", Run: lookAtServices(env, fromEach(clientOf, clusterIPs))},
		{Name: "services/clusterip-from-nodes", Needs: []verify.Part{verify.Services}, Claim: "Every node reaches a Service by its ClusterIP over TCP and UDP, on whatever node the backend is; the backend sees an address of the node.", Run: lookAtServices(env, fromEach(nodeItself, clusterIPs))},
		{Name: "services/clusterip-by-packets", Needs: []verify.Part{verify.Services}, Claim: "What a pod sends to a ClusterIP without asking its sockets, its own Service included, is answered from the ClusterIP.", Run: lookAtServices(env, onEachNode(clusterIPByPackets))},
		{Name: "services/every-backend", Needs: []verify.Part{verify.Services}, Claim: "A ClusterIP leads to each of its backends, from every node.", Run: lookAtServices(env, onEachNode(everyBackend))},
		{Name: "services/nodeport-from-pods", Needs: []verify.Part{verify.Services}, Claim: "Every pod reaches a nodePort on every node, with a local backend or without; the backend sees the address of the node asked, or without kube-proxy the client's own as long as the packet stays on that node.", Run: lookAtServices(env, fromEach(clientOf, nodePorts))},
		{Name: "services/nodeport-from-nodes", Needs: []verify.Part{verify.Services}, Claim: "Every node reaches a nodePort on every node, with a local backend or without; the backend sees the address of the node asked, or without kube-proxy the client's own as long as the packet stays on that node.", Run: lookAtServices(env, fromEach(nodeItself, nodePorts))},
		{Name: "services/nodeport-from-outside", Needs: []verify.Part{verify.Services, verify.Outside}, Claim: "A host outside reaches a nodePort on every node, with a local backend or without; the backend sees the address of the node asked, or without kube-proxy the client's own as long as the packet stays on that node.", Run: lookAtServices(env, nodePortFromOutside)},
		{Name: "services/hairpin", Needs: []verify.Part{verify.Services}, Claim: "A pod reaches itself through its own Service, by ClusterIP and by nodePort.", Run: lookAtServices(env, hairpin)},
		{Name: "services/headless", Needs: []verify.Part{verify.Services}, Claim: "A headless Service's name gives exactly its pods' addresses, and each answers.", Run: lookAtServices(env, headless)},
		{Name: "services/hostport", Needs: []verify.Part{verify.Services, verify.Outside}, Claim: "A hostPort leads to its pod from pods, nodes and outside, and the pod sees the client's own address.", Run: lookAtServices(env, hostPorts)},
	}
}

// fromEach asks from one peer of every node, all at once.
func fromEach(of func(*field.Node) field.Peer, asksOf func(context.Context, *field.Env, field.Peer) []ask) looker {
	return func(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
		var asks []ask
		for _, node := range env.Nodes {
			asks = append(asks, asksOf(ctx, env, of(node))...)
		}
		return askAll(ctx, ev, asks)
	}
}

func clientOf(node *field.Node) field.Peer { return node.Client }

func nodeItself(node *field.Node) field.Peer { return node.Peer }

// clusterIPs asks for both Services from a peer. A backend that asks for
// itself is another check's business.
func clusterIPs(ctx context.Context, env *field.Env, from field.Peer) []ask {
	var asks []ask
	for _, service := range []field.Service{env.Every, env.One} {
		if len(service.Backends) == 1 && service.Backends[0].Name == from.Name {
			continue
		}
		asks = append(asks, ask{from: from, to: service.At(), name: "Service " + service.Name, by: service.Backends, client: clusterIPClient(ctx, env, from)})
	}
	return asks
}

// packetPort is where a pod's datagrams to a ClusterIP come from; no socket has it.
const packetPort = 4343

// clusterIPByPackets sends from a raw socket, whose packets only a rule or
// program in their way can translate, and watches for what comes back.
func clusterIPByPackets(ctx context.Context, env *field.Env, node *field.Node, ev *verify.Evidence) error {
	return verify.Each([]field.Service{env.Every, env.One}, func(s field.Service) error {
		pod := node.Client
		if !pod.Addr.IsValid() {
			_, err := pod.Probe(ctx, probe.Request{})
			return fmt.Errorf("%s has no address to send from: %w", pod.Name, err)
		}
		answer := probe.Filter{Direction: probe.In, Protocol: "udp", Source: s.Addr, SourcePort: s.Port, DestinationPort: packetPort}
		watch, err := pod.Start(ctx, probe.Request{Timeout: watchTimeout, Capture: &probe.Capture{Interface: "eth0", Filter: answer, Count: 1}})
		if err != nil {
			return err
		}
		what := fmt.Sprintf("%s sends a packet to Service %s at %s", pod.Name, s.Name, s.At())
		_, _, err = sent(ctx, pod, what, probe.Request{Send: &probe.Send{
			Protocol: "udp", Source: pod.Addr, SourcePort: packetPort, Destination: s.Addr, DestinationPort: s.Port, Payload: field.NewMarker(),
		}}, ev)
		seen, waitErr := watch.Wait(ctx)
		if err := errors.Join(err, waitErr); err != nil {
			return err
		}
		ev.Expect(len(seen.Capture.Packets) == 1, what, "an answer from there", fmt.Sprintf("%d answers came from there%s", len(seen.Capture.Packets), because(seen.Failure)))
		return nil
	})
}

func everyBackend(ctx context.Context, env *field.Env, node *field.Node, ev *verify.Evidence) error {
	answered, failure, err := field.Spread(ctx, node.Client, env.Every)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%s -> Service %s", node.Client.Name, env.Every.Name)
	if failure != "" {
		ev.Wrong(what, "answers", failure)
	}
	for _, backend := range env.Every.Backends {
		times := answered[backend.Self]
		ev.Expect(times > 0, what+": "+backend.Self, "answers by each backend", fmt.Sprintf("it answered %d times", times))
	}
	return nil
}

// nodePortAt asks for a Service's nodePort at a node.
func nodePortAt(ctx context.Context, env *field.Env, from field.Peer, s field.Service, node *field.Node) ask {
	return ask{
		from: from, to: netip.AddrPortFrom(node.Addr, s.NodePortTCP), udp: netip.AddrPortFrom(node.Addr, s.NodePortUDP),
		name: "nodePort of " + s.Name + " at " + node.Name, by: s.Backends,
		client: nodePortClient(ctx, env, from, node), itself: hairpinClient(env),
	}
}

// nodePorts asks for both Services at every node.
func nodePorts(ctx context.Context, env *field.Env, from field.Peer) []ask {
	var asks []ask
	for _, entry := range env.Nodes {
		for _, service := range []field.Service{env.Every, env.One} {
			asks = append(asks, nodePortAt(ctx, env, from, service, entry))
		}
	}
	return asks
}

func nodePortFromOutside(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
	return askAll(ctx, ev, nodePorts(ctx, env, env.Outside))
}

func hairpin(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
	self := env.One.Backends[0]
	return askAll(ctx, ev, []ask{
		{from: self, to: env.One.At(), name: "itself through Service " + env.One.Name, by: env.One.Backends, client: clusterIPClient(ctx, env, self), itself: hairpinClient(env)},
		nodePortAt(ctx, env, self, env.One, env.NodeOf(self)),
	})
}

func hostPorts(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
	pod := env.One.Backends[0]
	at := netip.AddrPortFrom(env.NodeOf(pod).Addr, field.HostPort)
	to := func(from field.Peer) ask {
		return ask{from: from, to: at, name: fmt.Sprintf("hostPort of %s", pod.Name), by: []field.Peer{pod}, client: hostPortClient(ctx, env, from, pod), itself: hairpinClient(env)}
	}
	asks := []ask{to(env.Outside), to(pod)}
	for _, n := range env.Nodes {
		asks = append(asks, to(n.Peer), to(n.Server))
	}
	return askAll(ctx, ev, asks)
}

func headless(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
	name := serviceName(env.Headless)
	for _, b := range env.Headless.Backends {
		if !b.Addr.IsValid() {
			return fmt.Errorf("%s has no address, so what %s has to answer is not known", b.Name, name)
		}
	}
	return verify.Each(env.Nodes, func(node *field.Node) error {
		addresses, err := resolve(ctx, node.Client, name, ev)
		if err != nil || addresses == nil {
			return err
		}
		sameAddresses(ev, node.Client.Name+": "+name, addresses, env.Headless.Backends)
		var asks []ask
		for _, backend := range env.Headless.Backends {
			if slices.Contains(addresses, backend.Addr) { // sameAddresses has said where it is missing
				asks = append(asks, between(field.Pair{From: node.Client, To: backend}))
			}
		}
		return askAll(ctx, ev, asks)
	})
}
