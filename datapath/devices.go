package datapath

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// hostDevice is where the pod CIDR's route leads and the router's address is.
	hostDevice = "lab_host"
	// netDevice is the other end of the pair. No packet arrives at it, because the program on lab_host redirects
	// or drops every one.
	netDevice = "lab_net"
)

// ownDevices are those of ours that are not pods'.
func (c Config) ownDevices() []string {
	names := []string{hostDevice, netDevice}
	if device := c.tunnelDevice(); device != "" {
		names = append(names, device)
	}
	return names
}

// Devices keeps lab_host and lab_net, the tunnel's device, the router's address, the pod CIDR's route, and the programs that are
// not at pods' veths: on lab_host, on the NICs and at the node's cgroups.
type Devices struct{ d *Datapath }

// Devices returns the reconciler of the node's own devices.
func (d *Datapath) Devices() *Devices { return &Devices{d: d} }

// Apply makes devices, address, route and programs, for the NICs and the MTU that the node has now. [Open] has called it once.
func (v *Devices) Apply(ctx context.Context) error {
	missing := v.d.findNICs(ctx)
	if err := v.d.setMTU(); err != nil {
		return err
	}
	host, err := v.ensurePair()
	if err != nil {
		return err
	}
	if err := awaitUp(ctx, v.d.nl, hostDevice); err != nil {
		return err
	}
	if err := v.d.progs.cutAt(host.Attrs()); err != nil {
		return err
	}
	// What takes the place of an earlier agent's programs sends into its tunnel at once.
	if err := v.d.tellTunnel(); err != nil {
		return err
	}
	// The program is attached before the route is made: without it packets would arrive at lab_net and be routed again.
	if err := v.d.attacher.attach(hostHook(host), v.d.progs.toPod); err != nil {
		return err
	}
	if err := v.ensureAddress(ctx, host); err != nil {
		return err
	}
	if err := v.ensureRoute(ctx, host); err != nil {
		return err
	}
	if err := v.ensureTunnel(); err != nil {
		return err
	}
	if err := v.d.enterLocal(ctx); err != nil {
		return err
	}
	return errors.Join(missing, v.d.attachNICs(ctx), v.d.attachSockets(ctx))
}

func (v *Devices) ensurePair() (netlink.Link, error) {
	nl := v.d.nl
	host, err := linkByName(nl, hostDevice)
	if err != nil {
		return nil, err
	}
	if host != nil && host.Type() != "veth" {
		return nil, fmt.Errorf("device %s is a %s, not one of ours: rename or remove it", hostDevice, host.Type())
	}
	if host == nil {
		if err := v.createPair(); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{netDevice, hostDevice} {
		l, err := linkByName(nl, name)
		if err != nil {
			return nil, err
		}
		if l == nil {
			return nil, fmt.Errorf("device %s is missing although its pair is there: remove the pair", name)
		}
		if err := v.ensureUp(l); err != nil {
			return nil, err
		}
		host = l
	}
	return host, nil
}

func (v *Devices) createPair() error {
	hostMAC, netMAC := newMAC(), newMAC()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = hostDevice, v.d.mtu(), hostMAC[:]
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: netDevice, PeerHardwareAddr: netMAC[:]}
	if err := v.d.nl.LinkAdd(pair); err != nil {
		return fmt.Errorf("create devices %s and %s: %w", hostDevice, netDevice, err)
	}
	v.d.log.Info("device is made", "iface", hostDevice)
	return nil
}

func (v *Devices) ensureUp(l netlink.Link) error {
	nl, name := v.d.nl, l.Attrs().Name
	if err := v.d.setDeviceSysctls(name); err != nil {
		return err
	}
	if l.Attrs().RawFlags&unix.IFF_NOARP == 0 {
		if err := nl.LinkSetARPOff(l); err != nil {
			return fmt.Errorf("switch ARP off on %s: %w", name, err)
		}
	}
	if l.Attrs().MTU != v.d.mtu() {
		if err := nl.LinkSetMTU(l, v.d.mtu()); err != nil {
			return fmt.Errorf("set MTU of %s to %d: %w", name, v.d.mtu(), err)
		}
	}
	if l.Attrs().RawFlags&unix.IFF_UP == 0 {
		if err := nl.LinkSetUp(l); err != nil {
			return fmt.Errorf("set %s up: %w", name, err)
		}
	}
	return nil
}

// ensureAddress makes the router's address the only one: another is left from an earlier pod CIDR.
func (v *Devices) ensureAddress(ctx context.Context, host netlink.Link) error {
	want := netip.PrefixFrom(v.d.cfg.Router(), v.d.cfg.Router().BitLen())
	addrs, err := dump(ctx, func() ([]netlink.Addr, error) { return v.d.nl.AddrList(host, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", hostDevice, err)
	}
	there := false
	for _, a := range addrs {
		if sameNet(a.IPNet, want) {
			there = true
			continue
		}
		if err := v.d.nl.AddrDel(host, &a); err != nil {
			return fmt.Errorf("remove address %s from %s: %w", a.IPNet, hostDevice, err)
		}
	}
	if there {
		return nil
	}
	if err := v.d.nl.AddrAdd(host, &netlink.Addr{IPNet: ipNet(want)}); err != nil {
		return fmt.Errorf("add address %s to %s: %w", want, hostDevice, err)
	}
	return nil
}

// ensureRoute sends the pod CIDR to lab_host. The preferred source of the route is the node's address: a
// process of the node that is bound to no address answers a pod's datagram from it, and that is the address which pods
// use for the node. Routes keeps the others to lab_host.
func (v *Devices) ensureRoute(ctx context.Context, host netlink.Link) error {
	want := netlink.Route{
		LinkIndex: host.Attrs().Index,
		Dst:       ipNet(v.d.cfg.PodCIDR),
		Gw:        v.d.cfg.Router().AsSlice(),
		Src:       v.d.cfg.NodeIP.AsSlice(),
		Protocol:  routeProtocol,
		Table:     unix.RT_TABLE_MAIN,
	}
	routes, err := ownRoutes(ctx, v.d.nl)
	if err != nil {
		return err
	}
	there := false
	for _, r := range routes {
		switch {
		case r.LinkIndex != want.LinkIndex || !sameNet(r.Dst, v.d.cfg.PodCIDR): // see Routes
		case toAddr(r.Gw) == v.d.cfg.Router() && toAddr(r.Src) == v.d.cfg.NodeIP:
			there = true
		default:
			if err := v.d.nl.RouteDel(&r); err != nil {
				return fmt.Errorf("remove route to %s: %w", r.Dst, err)
			}
		}
	}
	if there {
		return nil
	}
	if err := v.d.nl.RouteAdd(&want); err != nil {
		return fmt.Errorf("add route to pod CIDR %s: %w", v.d.cfg.PodCIDR, err)
	}
	return nil
}
