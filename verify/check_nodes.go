package verify

import (
	"context"
	"slices"
)

func nodeChecks() []Check {
	return []Check{
		{Name: "nodes/routes", Claim: "Every node routes its own pod CIDR to the router on " + routerDevice + ", and each other node's by way of that node's address.", Run: nodeRoutes},
	}
}

func nodeRoutes(ctx context.Context, env *Env, ev *Evidence) error {
	return each(env.Nodes, func(node *Node) error {
		router, err := routerOf(ctx, node)
		if err != nil {
			return err
		}
		nic, err := nicOf(ctx, node)
		if err != nil {
			return err
		}
		have, err := routes(ctx, node.Host)
		if err != nil {
			return err
		}
		for _, to := range env.Nodes {
			want := netRoute{Destination: to.PodCIDR.String(), Gateway: to.Addr, Device: nic.Name}
			if to == node {
				want.Gateway, want.Device = router, routerDevice
			}
			judgeRoute(ev, node.Name, want, have)
		}
		return nil
	})
}

// judgeRoute wants exactly one route to the destination, the wanted one.
func judgeRoute(ev *Evidence, host string, want netRoute, have []netRoute) {
	var got []netRoute
	for _, route := range have {
		if route.Destination == want.Destination {
			got = append(got, route)
		}
	}
	right := len(got) == 1 && got[0].Gateway == want.Gateway && got[0].Device == want.Device &&
		(want.Scope == "" || got[0].Scope == want.Scope)
	if right {
		ev.Saw("%s: %s", host, got[0])
		return
	}
	if len(got) == 0 {
		ev.Wrong("%s: no route to %s, to be %s", host, want.Destination, want)
		return
	}
	slices.SortFunc(got, func(a, b netRoute) int { return a.Gateway.Compare(b.Gateway) })
	ev.Wrong("%s: %v, to be %s alone", host, got, want)
}
