package datapath

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/api"
)

// build is an endpoint that is being made.
type build struct {
	d    *Datapath
	spec EndpointSpec
	pod  *netlink.Handle // in the pod's namespace
	veth netlink.Link    // its host side
	ep   api.Endpoint
}

// AddEndpoint makes the veth pair, configures the pod's side, attaches the program and enters the
// endpoint into the map. Adding an endpoint that is there already, and whole, returns it. When it fails
// it leaves nothing behind. The error wraps [ErrAddrInUse] when another live endpoint has the address.
func (d *Datapath) AddEndpoint(ctx context.Context, spec EndpointSpec) (_ api.Endpoint, err error) {
	if err := spec.validate(d.cfg); err != nil {
		return api.Endpoint{}, fmt.Errorf("add endpoint: %w", err)
	}
	b := &build{d: d, spec: spec}
	if b.pod, err = netlink.NewHandleAt(netns.NsHandle(spec.NetNS), unix.NETLINK_ROUTE); err != nil {
		return api.Endpoint{}, fmt.Errorf("enter the pod's network namespace: %w", err)
	}
	defer b.pod.Close()
	had, err := d.find(spec)
	if err != nil {
		return api.Endpoint{}, err
	}
	if ep, problem := d.check(ctx, spec, had, b.pod); problem == nil {
		return ep, nil
	}
	if err := errors.Join(d.addressFree(spec, had), nameFree(spec, had)); err != nil {
		return api.Endpoint{}, err
	}
	if !had.nothing() { // an earlier attempt, or an endpoint that somebody has damaged
		if _, err := d.removeEndpoint(spec.HostIf); err != nil {
			return api.Endpoint{}, err
		}
	}
	putBack, err := d.takeAddress(spec.Addr, had.own)
	if err != nil {
		return api.Endpoint{}, fmt.Errorf("add endpoint %s of %s: %w", spec.Addr, spec.alias(), err)
	}
	if err := b.run(ctx); err != nil {
		_, undo := d.removeEndpoint(spec.HostIf)
		return api.Endpoint{}, errors.Join(fmt.Errorf("add endpoint %s of %s: %w", spec.Addr, spec.alias(), err), undo, putBack())
	}
	d.log.Info("endpoint is added", "pod", spec.alias(), "addr", spec.Addr, "iface", b.ep.HostIf)
	return b.ep, nil
}

// addressFree removes what a vanished endpoint left at the address and refuses a live one's.
func (d *Datapath) addressFree(spec EndpointSpec, had present) error {
	if !had.entered || had.own {
		return nil
	}
	owner := vethName(had.entry.Veth)
	l, err := linkByName(d.nl, owner)
	if err != nil {
		return err
	}
	if !isVethOf(l, had.entry) {
		return d.maps.remove(spec.Addr, had.entry)
	}
	return fmt.Errorf("add endpoint %s of %s: %w by %s (%s)", spec.Addr, spec.alias(), ErrAddrInUse, owner, l.Attrs().Alias)
}

// nameFree refuses to take another pod's device for an earlier attempt at this one: names are short, and
// two containers could have the same.
func nameFree(spec EndpointSpec, had present) error {
	if had.veth == nil || had.veth.Attrs().Alias == "" || had.veth.Attrs().Alias == spec.alias() {
		return nil
	}
	return fmt.Errorf("add endpoint %s of %s: device %s belongs to %s: have the pod made anew, for another container ID",
		spec.Addr, spec.alias(), spec.HostIf, had.veth.Attrs().Alias)
}

// run is the list of steps. The host side goes up last, when its program is attached, so that every packet of the pod
// passes the program. Attaching waits about 10 ms for an RCU grace period of the kernel; the pod's side is configured
// meanwhile.
func (b *build) run(ctx context.Context) error {
	if err := b.createPair(); err != nil {
		return err
	}
	if err := b.d.setDeviceSysctls(b.ep.HostIf); err != nil {
		return err
	}
	var podSide errgroup.Group
	podSide.Go(b.configurePod)
	// Attaching looks the device up in the namespace of the thread, so it stays on the caller's.
	err := b.d.attacher.attach(podHook(b.veth), b.d.progs.fromPod)
	if err := errors.Join(err, podSide.Wait(), ctx.Err()); err != nil {
		return err
	}
	if err := b.d.maps.enter(b.spec.Addr, endpointEntry(b.ep), ebpf.UpdateNoExist); err != nil {
		return err
	}
	if err := b.d.maps.enterNetNS(b.spec.Addr, b.veth); err != nil {
		return err
	}
	if err := b.d.nl.LinkSetUp(b.veth); err != nil {
		return fmt.Errorf("set %s up: %w", b.ep.HostIf, err)
	}
	// The neighbour is the mark of a finished endpoint, see restoreEntries.
	if err := setNeighbour(b.d.nl, b.ep); err != nil {
		return err
	}
	return b.awaitCarrier(ctx)
}

func (b *build) createPair() error {
	cfg := b.d.cfg
	b.ep = api.Endpoint{
		ID:        cfg.endpointID(b.spec.Addr),
		Namespace: b.spec.Namespace,
		Pod:       b.spec.Pod,
		Addr:      b.spec.Addr,
		HostIf:    b.spec.HostIf,
		HostMAC:   newMAC(),
		PodMAC:    newMAC(),
		MTU:       b.d.mtu(),
		Identity:  b.spec.Identity,
		Attached:  true,
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = b.ep.HostIf, b.ep.MTU, b.ep.HostMAC[:]
	pair := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         b.spec.IfName,
		PeerHardwareAddr: b.ep.PodMAC[:],
		PeerNamespace:    netlink.NsFd(b.spec.NetNS),
	}
	err := b.d.nl.LinkAdd(pair)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("create veth pair: the pod has an interface %s already, or the node one named %s", b.spec.IfName, b.ep.HostIf)
	}
	if err != nil {
		return fmt.Errorf("create veth pair: %w", err)
	}
	if b.veth, err = b.d.nl.LinkByName(b.ep.HostIf); err != nil {
		return fmt.Errorf("look up new device %s: %w", b.ep.HostIf, err)
	}
	b.ep.HostIndex = b.veth.Attrs().Index
	if err := b.d.nl.LinkSetAlias(b.veth, b.spec.alias()); err != nil {
		return fmt.Errorf("set alias of %s: %w", b.ep.HostIf, err)
	}
	return nil
}

func endpointEntry(ep api.Endpoint) bpf.Endpoint {
	number, _ := vethNumber(ep.HostIf)
	return bpf.Endpoint{
		Identity: ep.Identity,
		Ifindex:  uint32(ep.HostIndex), Id: ep.ID, Veth: number,
		Mac: bpf.MAC{B: ep.PodMAC}, NodeMac: bpf.MAC{B: ep.HostMAC},
	}
}

// configurePod gives the pod its address and its two routes, all through one netlink socket that was
// opened in the pod's namespace.
func (b *build) configurePod() error {
	lo, err := b.pod.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("look up the pod's lo: %w", err)
	}
	if err := b.pod.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set the pod's lo up: %w", err)
	}
	eth, err := b.pod.LinkByName(b.spec.IfName)
	if err != nil {
		return fmt.Errorf("look up the pod's %s: %w", b.spec.IfName, err)
	}
	if err := noLinkLocal(b.pod, eth); err != nil {
		return err
	}
	if err := b.pod.AddrAdd(eth, &netlink.Addr{IPNet: hostNet(b.spec.Addr)}); err != nil {
		return fmt.Errorf("add address %s to the pod's %s: %w", b.spec.Addr, b.spec.IfName, err)
	}
	if err := b.pod.LinkSetUp(eth); err != nil {
		return fmt.Errorf("set the pod's %s up: %w", b.spec.IfName, err)
	}
	for _, route := range podRoutes(eth.Attrs().Index, b.d.cfg, b.ep.MTU) {
		if err := b.pod.RouteAdd(&route); err != nil {
			return fmt.Errorf("add the pod's route to %s: %w", routeName(route), err)
		}
	}
	return nil
}

// noLinkLocal keeps IPv6 from sending router solicitations: IPv6 is not carried, and nobody would answer.
func noLinkLocal(nl *netlink.Handle, l netlink.Link) error {
	const none = 1 // IN6_ADDR_GEN_MODE_NONE of linux/if_link.h
	err := nl.LinkSetIP6AddrGenMode(l, none)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil // no IPv6 at all
	}
	if err != nil {
		return fmt.Errorf("switch link-local addresses of %s off: %w", l.Attrs().Name, err)
	}
	return nil
}

// podRoutes are the two routes of a pod whose interface takes mtu. The router is on the link although the pod's own
// prefix does not reach it, so its route comes first. Where less fits through a tunnel, the default route says how much.
func podRoutes(index int, cfg Config, mtu int) []netlink.Route {
	router, routed := cfg.Router(), cfg.PodMTU(mtu)
	if routed == mtu {
		routed = 0
	}
	return []netlink.Route{
		{LinkIndex: index, Dst: hostNet(router), Scope: netlink.SCOPE_LINK},
		{LinkIndex: index, Dst: ipNet(defaultPrefix), Gw: router.AsSlice(), MTU: routed},
	}
}

var defaultPrefix = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

func routeName(r netlink.Route) string {
	if p, ok := toPrefix(r.Dst); ok && p != defaultPrefix {
		return p.String()
	}
	return "default"
}

// setNeighbour makes a permanent neighbour entry on the host-side veth, with the pod's address and MAC. No packet uses it.
// It says that the endpoint is complete, and the map's entry can be made from it again.
func setNeighbour(nl *netlink.Handle, ep api.Endpoint) error {
	err := nl.NeighSet(&netlink.Neigh{
		LinkIndex:    ep.HostIndex,
		Family:       netlink.FAMILY_V4,
		State:        netlink.NUD_PERMANENT,
		IP:           ep.Addr.AsSlice(),
		HardwareAddr: ep.PodMAC[:],
	})
	if err != nil {
		return fmt.Errorf("set neighbour %s on %s: %w", ep.Addr, ep.HostIf, err)
	}
	return nil
}

// awaitCarrier waits until packets pass both ways.
func (b *build) awaitCarrier(ctx context.Context) error {
	return errors.Join(awaitUp(ctx, b.pod, b.spec.IfName), awaitUp(ctx, b.d.nl, b.ep.HostIf))
}
