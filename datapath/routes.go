package datapath

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Node is one node of the cluster, this one included, as the reconcilers want it.
type Node struct {
	Name     string
	IP       netip.Addr
	PodCIDRs []netip.Prefix
}

// Routes keeps one route for each other node's pod CIDRs: by way of that node, or, where there is a tunnel, to lab_host, whose
// program has what comes there go through it.
type Routes struct{ d *Datapath }

// Routes returns the reconciler of node routes.
func (d *Datapath) Routes() *Routes { return &Routes{d: d} }

// nextHop is what a node route needs besides its destination.
type nextHop struct {
	via   netip.Addr
	index int
	src   netip.Addr // of what the node's own processes send; invalid: the kernel's choice
	mtu   int        // 0: the device's
}

// Apply makes the routes match nodes and removes other routes of ours, but that to the node's own pods. It returns the names, sorted, of
// the nodes that are not on the same L2 as this one, to which no route was made. Without
// AutoDirectNodeRoutes and without a tunnel the desired routes are none.
func (r *Routes) Apply(ctx context.Context, nodes []Node) (skipped []string, err error) {
	want := map[netip.Prefix]nextHop{}
	r.d.routed.set(nodes)
	switch {
	case r.d.cfg.tunnelDevice() != "":
		tunneled, err := r.tunneled()
		if err != nil {
			return nil, err
		}
		want, skipped = r.desired(nodes, func(netip.Addr) (nextHop, bool) { return tunneled, true })
	case r.d.cfg.AutoDirectNodeRoutes:
		want, skipped = r.desired(nodes, r.direct)
	}
	return skipped, r.apply(ctx, want)
}

// desired are the routes to the other nodes' pods, by the hops to these nodes, and the nodes without one, sorted.
func (r *Routes) desired(nodes []Node, hopTo func(netip.Addr) (nextHop, bool)) (map[netip.Prefix]nextHop, []string) {
	want := map[netip.Prefix]nextHop{}
	var skipped []string
	for _, n := range nodes {
		if n.Name == r.d.cfg.NodeName || n.IP == r.d.cfg.NodeIP || len(n.PodCIDRs) == 0 {
			continue
		}
		hop, ok := hopTo(n.IP)
		if !ok {
			skipped = append(skipped, n.Name)
			continue
		}
		for _, cidr := range n.PodCIDRs {
			if cidr.Addr().Is4() {
				want[cidr.Masked()] = hop
			}
		}
	}
	slices.Sort(skipped)
	return want, skipped
}

// tunneled is the hop to all nodes where there is a tunnel. Nodes' processes have the node's address there, as towards
// its own pods.
func (r *Routes) tunneled() (nextHop, error) {
	host, err := linkByName(r.d.nl, hostDevice)
	if err != nil {
		return nextHop{}, err
	}
	if host == nil {
		return nextHop{}, fmt.Errorf("device %s is gone", hostDevice)
	}
	cfg := r.d.cfg
	return nextHop{via: cfg.Router(), index: host.Attrs().Index, src: cfg.NodeIP, mtu: cfg.PodMTU(r.d.mtu())}, nil
}

// direct is the hop by the node itself; not ok when a router is in between, or no route.
func (r *Routes) direct(node netip.Addr) (hop nextHop, ok bool) {
	if !node.Is4() {
		return hop, false
	}
	routes, err := r.d.nl.RouteGet(node.AsSlice())
	if err != nil || len(routes) != 1 || len(routes[0].Gw) != 0 || routes[0].Via != nil {
		return hop, false
	}
	return nextHop{via: node, index: routes[0].LinkIndex}, true
}

func (r *Routes) apply(ctx context.Context, want map[netip.Prefix]nextHop) error {
	have, err := r.current(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, route := range have {
		dst, _ := toPrefix(route.Dst)
		if hop, ok := want[dst]; ok && hop == (nextHop{toAddr(route.Gw), route.LinkIndex, toAddr(route.Src), route.MTU}) {
			delete(want, dst)
			continue
		}
		if _, ok := want[dst]; ok {
			continue // replaced below, so that there is a route at every moment
		}
		if err := r.d.nl.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove route to %s: %w", dst, err))
			continue
		}
		r.d.log.Info("node route is removed", "dst", dst)
	}
	for dst, hop := range want {
		errs = append(errs, r.set(dst, hop, have))
	}
	return errors.Join(errs...)
}

func (r *Routes) set(dst netip.Prefix, hop nextHop, have []netlink.Route) error {
	route := &netlink.Route{
		LinkIndex: hop.index,
		Dst:       ipNet(dst),
		Gw:        hop.via.AsSlice(),
		Src:       hop.src.AsSlice(),
		MTU:       hop.mtu,
		Protocol:  routeProtocol,
		Table:     unix.RT_TABLE_MAIN,
	}
	change := r.d.nl.RouteAdd // which refuses to take the place of somebody else's route
	if slices.ContainsFunc(have, func(h netlink.Route) bool { return sameNet(h.Dst, dst) }) {
		change = r.d.nl.RouteReplace
	}
	err := change(route)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add route to %s via %s: another one is there already: remove it, or switch autoDirectNodeRoutes off", dst, hop.via)
	}
	if err != nil {
		return fmt.Errorf("add route to %s via %s: %w", dst, hop.via, err)
	}
	r.d.log.Info("node route is set", "dst", dst, "via", hop.via)
	return nil
}

// current are the routes of ours that do not lead to the node's own pods.
func (r *Routes) current(ctx context.Context) ([]netlink.Route, error) {
	routes, err := ownRoutes(ctx, r.d.nl)
	if err != nil {
		return nil, err
	}
	host, err := linkByName(r.d.nl, hostDevice)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(routes, func(route netlink.Route) bool {
		return host != nil && route.LinkIndex == host.Attrs().Index && sameNet(route.Dst, r.d.cfg.PodCIDR)
	}), nil
}

// ownRoutes are all routes of ours in the main table.
func ownRoutes(ctx context.Context, nl *netlink.Handle) ([]netlink.Route, error) {
	filter := &netlink.Route{Protocol: routeProtocol, Table: unix.RT_TABLE_MAIN}
	routes, err := dump(ctx, func() ([]netlink.Route, error) {
		return nl.RouteListFiltered(netlink.FAMILY_V4, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return routes, nil
}
