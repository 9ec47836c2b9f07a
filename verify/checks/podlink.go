package checks

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
	"wirelab.dev/wirelab/verify/probe"
)

func pathChecks(env *field.Env) []verify.Check {
	return []verify.Check{
		{Name: "paths/pod-address", Needs: []verify.Part{verify.Nodes, verify.Pods}, Claim: "A pod's eth0 has a /32 and exactly two routes: the router on the link, and everything else by way of it, where there is a tunnel with the MTU that fits through it.", Run: look(env, onEachNode(podAddress))},
		{Name: "paths/arp", Needs: []verify.Part{verify.Nodes, verify.Pods}, Claim: "Whatever address a pod asks for but its own, the MAC that answers is that of its host-side veth.", Run: look(env, onEachNode(whoAnswersARP))},
		{Name: "paths/frame-source", Needs: []verify.Part{verify.Nodes, verify.Pods}, Claim: "Frames that arrive at a pod's eth0 come from the MAC of its host-side veth.", Run: look(env, onEachNode(frameSource))},
		{Name: "paths/spoofed-source", Needs: []verify.Part{verify.Nodes, verify.Pods, verify.Outside}, Claim: "What a pod sends with an address that is not its own arrives nowhere; with its own it arrives.", Run: look(env, onEachNode(spoofed))},
	}
}

func podAddress(ctx context.Context, env *field.Env, node *field.Node, ev *verify.Evidence) error {
	router, err := env.RouterOf(ctx, node)
	if err != nil {
		return err
	}
	nic, err := env.NICOf(ctx, node)
	if err != nil {
		return err
	}
	eth0, err := env.DeviceOf(ctx, node.Client, "eth0")
	if err != nil {
		return err
	}
	have, err := field.RoutesOf(ctx, node.Client, "main")
	if err != nil {
		return err
	}
	judgePod(ev, node.Client, field.Route{Destination: "default", Gateway: router, Device: "eth0", MTU: tunnelMTU(env, nic.MTU)}, eth0, have)
	return nil
}

func judgePod(ev *verify.Evidence, pod field.Peer, beyond field.Route, eth0 field.Device, have []field.Route) {
	want := []netip.Prefix{netip.PrefixFrom(pod.Addr, 32)}
	ev.Expect(slices.Equal(eth0.IPv4(), want), pod.Name+": addresses of eth0", fmt.Sprint(want), fmt.Sprint(eth0.IPv4()))
	ev.Expect(len(have) == 2, pod.Name+": routes", "2 of them", fmt.Sprintf("%d: %v", len(have), have))
	judgeRoute(ev, pod.Name, beyond, have)
	judgeRoute(ev, pod.Name, field.Route{Destination: beyond.Gateway.String(), Device: "eth0", Scope: "link"}, have)
}

func whoAnswersARP(ctx context.Context, env *field.Env, node *field.Node, ev *verify.Evidence) error {
	_, _, veth, err := env.HostSide(ctx, node.Client)
	if err != nil {
		return err
	}
	router, err := env.RouterOf(ctx, node)
	if err != nil {
		return err
	}
	asked := map[string]netip.Addr{"the router": router, "the same-node pod": node.Server.Addr, "the node": node.Addr}
	for _, other := range env.Nodes {
		if other != node {
			asked["a remote pod on "+other.Node] = other.Server.Addr
		}
	}
	var errs error
	for who, addr := range asked {
		errs = errors.Join(errs, judgeARP(ctx, ev, node.Client, who, addr, veth))
	}
	return errors.Join(errs, ownAddressUnanswered(ctx, ev, node.Client))
}

func judgeARP(ctx context.Context, ev *verify.Evidence, pod field.Peer, who string, addr netip.Addr, veth field.Device) error {
	if !addr.IsValid() {
		return fmt.Errorf("%s: %s has no address to ask for", pod.Name, who)
	}
	what := fmt.Sprintf("%s asks who has %s, %s", pod.Name, addr, who)
	reply, ok, err := sent(ctx, pod, what, probe.Request{ARP: &probe.ARP{Interface: "eth0", Address: addr}}, ev)
	if err != nil || !ok {
		return err
	}
	right := reply.ARP.MAC == veth.MAC && reply.ARP.FrameMAC == veth.MAC
	ev.Expect(right, what, fmt.Sprintf("an answer by %s, the MAC of %s, in a frame of its own", veth.MAC, veth.Name),
		fmt.Sprintf("%s answers, in a frame of %s", reply.ARP.MAC, reply.ARP.FrameMAC))
	return nil
}

// ownAddressUnanswered: an answer would tell the pod that its address is in
// use elsewhere. The other questions are the control that answers do arrive.
func ownAddressUnanswered(ctx context.Context, ev *verify.Evidence, pod field.Peer) error {
	reply, err := pod.Probe(ctx, probe.Request{Timeout: probe.Duration(500 * time.Millisecond), ARP: &probe.ARP{Interface: "eth0", Address: pod.Addr}})
	if err != nil {
		return err
	}
	if reply.ARP != nil {
		ev.Wrong(fmt.Sprintf("%s asks who has %s, its own address", pod.Name, pod.Addr), "no answer", reply.ARP.MAC+" answers")
		return nil
	}
	ev.Saw("%s asks who has %s, its own address: nobody answers", pod.Name, pod.Addr)
	return nil
}

func frameSource(ctx context.Context, env *field.Env, node *field.Node, ev *verify.Evidence) error {
	_, eth0, veth, err := env.HostSide(ctx, node.Client)
	if err != nil {
		return err
	}
	from := []field.Peer{node.Server, node.Peer}
	for _, other := range env.Nodes {
		if other != node {
			from = append(from, other.Server)
		}
	}
	return verify.Each(from, func(sender field.Peer) error { return judgeFrames(ctx, ev, sender, node.Client, eth0, veth) })
}

func judgeFrames(ctx context.Context, ev *verify.Evidence, from, pod field.Peer, eth0, veth field.Device) error {
	what := fmt.Sprintf("%s -> %s", from.Name, pod.Name)
	requests, answered, err := pingWatched(ctx, from, pod.Addr, pod, what, ev)
	if err != nil {
		return err
	}
	for _, p := range requests {
		right := p.SourceMAC == veth.MAC && p.DestMAC == eth0.MAC
		ev.Expect(right, what, fmt.Sprintf("frames from %s, the MAC of %s, to %s, that of eth0", veth.MAC, veth.Name, eth0.MAC),
			fmt.Sprintf("a frame from %s to %s arrives", p.SourceMAC, p.DestMAC))
	}
	if answered && len(requests) == 0 {
		return fmt.Errorf("%s: answered, and yet eth0 of %s saw nothing", what, pod.Name)
	}
	return nil
}

// pingWatched sends one echo request to an address and returns what eth0 of
// the peer who has it saw of that request, and whether it was answered. That it
// was not is recorded as wrong. An answered request that was not seen means
// that the watch has failed.
func pingWatched(
	ctx context.Context, from field.Peer, to netip.Addr, at field.Peer, what string, ev *verify.Evidence,
) (requests []probe.Packet, answered bool, err error) {
	marker := field.NewMarker()
	watch, err := at.Start(ctx, probe.Request{Timeout: watchTimeout, Capture: &probe.Capture{
		Interface: "eth0", Filter: probe.Filter{Direction: probe.In, Protocol: "icmp", Contains: marker},
	}})
	if err != nil {
		return nil, false, err
	}
	_, answered, err = sent(ctx, from, what, probe.Request{ICMP: &probe.ICMP{Address: to, Marker: marker}}, ev)
	seen, stopErr := watch.Stop(ctx)
	if err := errors.Join(err, stopErr); err != nil {
		return nil, false, err
	}
	return seen.Capture.Packets, answered, nil
}
