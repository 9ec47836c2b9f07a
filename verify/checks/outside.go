package checks

import (
	"context"
	"fmt"
	"net/netip"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
)

func outsideChecks(env *field.Env) []verify.Check {
	return []verify.Check{
		{
			Name: "outside/masquerade", Needs: []verify.Part{verify.Pods, verify.Outside}, Claim: "A pod reaches a host outside by TCP, UDP and ICMP, and arrives with its node's address.",
			Settings: []string{masquerading}, Run: look(env, onEachNode(masqueraded)),
		},
		{
			Name: "outside/native-cidr", Needs: []verify.Part{verify.Pods, verify.Native}, Claim: "A pod reaches an address inside the native-routing CIDR with its own address.",
			Settings: []string{"network.ipv4NativeRoutingCIDR"}, Run: look(env, nativeRouted),
		},
	}
}

func masqueraded(ctx context.Context, env *field.Env, node *field.Node, ev *verify.Evidence) error {
	return arrivesAs(ctx, env, node.Client, env.Outside.Addr, node.Addr, ev)
}

func nativeRouted(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
	if !env.Native.IsValid() {
		return fmt.Errorf("no address is free inside the native-routing CIDR %s beside pods, Services and nodes", env.NativeCIDR)
	}
	return verify.Each(env.Nodes, func(node *field.Node) error {
		return arrivesAs(ctx, env, node.Client, env.Native, node.Client.Addr, ev)
	})
}

// arrivesAs asks the outside host at to, which answers which client it saw;
// for ICMP, which has no such answer, its NIC is watched.
func arrivesAs(ctx context.Context, env *field.Env, from field.Peer, to, as netip.Addr, ev *verify.Evidence) error {
	name := fmt.Sprintf("outside host at %s", to)
	err := askAll(ctx, ev, []ask{{
		from: from, to: netip.AddrPortFrom(to, env.Outside.Port), name: name,
		client: func(field.Peer) (netip.Addr, error) { return as, nil },
	}})
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%s -> %s (icmp)", from.Name, name)
	requests, answered, err := pingWatched(ctx, from, to, env.Outside, what, ev)
	if err != nil {
		return err
	}
	for _, packet := range requests {
		ev.Expect(packet.Source == as, what, fmt.Sprintf("a request from %s", as), fmt.Sprintf("a request from %s arrived", packet.Source))
	}
	if len(requests) == 0 && answered {
		return fmt.Errorf("%s: answered, and yet no request was seen to arrive", what)
	}
	return nil
}
