package checks

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
)

func nodeChecks(env *field.Env) []verify.Check {
	return []verify.Check{
		{Name: "nodes/pod-cidrs", Needs: []verify.Part{verify.Nodes}, Claim: "No node's pod CIDR overlaps another's, all are inside the pool where there is one, and the address on " + field.RouterDevice + " is the first of its node's.", Run: look(env, podCIDRs)},
		{Name: "nodes/routes", Needs: []verify.Part{verify.Nodes}, Claim: "Every node routes its own pod CIDR to the router on " + field.RouterDevice + ", and each other node's by way of that node's address, or, where there is a tunnel, to that device too, with the MTU that fits through it; no other route leads to another node's pods.", Run: look(env, onEachNode(nodeRoutes))},
	}
}

func podCIDRs(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
	for i, node := range env.Nodes {
		if len(env.Pool) > 0 && !slices.ContainsFunc(env.Pool, func(pool netip.Prefix) bool { return field.Inside(node.PodCIDR, pool) }) {
			ev.Wrong(node.Name, fmt.Sprintf("a pod CIDR of the pool %v", env.Pool), node.PodCIDR.String()+", which is not of it")
		}
		for _, other := range env.Nodes[:i] {
			if node.PodCIDR.Overlaps(other.PodCIDR) {
				ev.Wrong(node.Name, "a pod CIDR that overlaps no other's", fmt.Sprintf("%s, and %s has %s", node.PodCIDR, other.Name, other.PodCIDR))
			}
		}
	}
	return verify.Each(env.Nodes, func(node *field.Node) error {
		router, err := env.RouterOf(ctx, node)
		if err != nil {
			return err
		}
		ev.Expect(router == node.PodCIDR.Masked().Addr().Next(), node.Name, "the first address of "+node.PodCIDR.String()+" on "+field.RouterDevice, router.String())
		return nil
	})
}

func nodeRoutes(ctx context.Context, env *field.Env, node *field.Node, ev *verify.Evidence) error {
	router, err := env.RouterOf(ctx, node)
	if err != nil {
		return err
	}
	nic, err := env.NICOf(ctx, node)
	if err != nil {
		return err
	}
	have, err := field.RoutesOf(ctx, node.Peer, "all")
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(have, func(r field.Route) bool { return r.Device == nic.Name }) {
		return fmt.Errorf("%s: not one route by %s is seen, so the absence of those to pods proves nothing", node.Name, nic.Name)
	}
	for _, to := range env.Nodes {
		want := field.Route{Destination: to.PodCIDR.String(), Gateway: to.Addr, Device: nic.Name}
		if to == node || env.Tunnel != nil {
			want.Gateway, want.Device = router, field.RouterDevice
		}
		if to != node {
			want.MTU = tunnelMTU(env, nic.MTU)
			noWayPast(ev, node, to, have)
		}
		judgeRoute(ev, node.Name, want, have)
	}
	return nil
}

// tunnelMTU is what a route through the tunnel says, on a node whose NIC has that MTU; 0 where there is none.
func tunnelMTU(env *field.Env, nic int) field.RouteMTU {
	if env.Tunnel == nil {
		return 0
	}
	return field.RouteMTU(cmp.Or(env.MTU, nic) - field.TunnelOverhead)
}

// noWayPast wants no route to a part of another node's pods.
func noWayPast(ev *verify.Evidence, node, to *field.Node, have []field.Route) {
	for _, route := range have {
		if route.Inside(to.PodCIDR) && route.Destination != to.PodCIDR.String() {
			ev.Wrong(fmt.Sprintf("%s: routes to a part of %s, the pods of %s", node.Name, to.PodCIDR, to.Name), "none", route.String())
		}
	}
}

// judgeRoute wants exactly one route to the destination, the wanted one.
func judgeRoute(ev *verify.Evidence, name string, want field.Route, have []field.Route) {
	got := slices.DeleteFunc(slices.Clone(have), func(r field.Route) bool { return r.Destination != want.Destination })
	right := len(got) == 1 && got[0].Gateway == want.Gateway && got[0].Device == want.Device &&
		got[0].MTU == want.MTU && (want.Scope == "" || got[0].Scope == want.Scope)
	if right {
		ev.Saw("%s: %s", name, got[0])
		return
	}
	if len(got) == 0 {
		ev.Wrong(name+": route to "+want.Destination, want.String(), "none")
		return
	}
	slices.SortFunc(got, func(a, b field.Route) int { return a.Gateway.Compare(b.Gateway) })
	ev.Wrong(name+": route to "+want.Destination, want.String()+" alone", fmt.Sprint(got))
}
