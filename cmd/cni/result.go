package main

import (
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/internal/api"
)

// addResult is what the pod got, in the newest form of the specification:
// both ends of its veth, its /32, and its two routes.
func addResult(args *skel.CmdArgs, c *conf, ep *api.CNIEndpoint) *current.Result {
	return &current.Result{
		CNIVersion: current.ImplementedSpecVersion,
		Interfaces: []*current.Interface{
			{Name: ep.HostIf, Mac: ep.HostMAC.String(), Mtu: ep.MTU},
			{Name: args.IfName, Mac: ep.PodMAC.String(), Mtu: ep.MTU, Sandbox: args.Netns},
		},
		IPs: []*current.IPConfig{{
			Interface: current.Int(1),
			Address:   ipNet(netip.PrefixFrom(ep.Addr, ep.Addr.BitLen())),
			Gateway:   ep.Router.AsSlice(),
		}},
		Routes: routes(ep.Router),
		DNS:    c.DNS,
	}
}

// routes are the link-scope route to the router and the default route by it.
func routes(router netip.Addr) []*types.Route {
	link := int(unix.RT_SCOPE_LINK)
	return []*types.Route{
		{Dst: ipNet(netip.PrefixFrom(router, router.BitLen())), Scope: &link},
		{Dst: ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0)), GW: router.AsSlice()},
	}
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
