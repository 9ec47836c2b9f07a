package datapath

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/api"
)

// SyncEndpoints repairs endpoints and removes dead ones. It attaches programs that are missing from a host-side veth and
// enters lost map entries. It removes entries and links of veths that are gone, and veths whose making was cut off. It
// returns the removed endpoints, sorted by address.
func (d *Datapath) SyncEndpoints(ctx context.Context) (removed []api.Endpoint, err error) {
	if err := d.restoreEntries(ctx); err != nil {
		return nil, err
	}
	removed, err = d.removeDead(ctx)
	if err != nil {
		return removed, err
	}
	return removed, d.attachEndpoints(ctx)
}

// restoreEntries enters the endpoints that netlink knows and the map does not: all of them after a
// change of layout, and those whose entries somebody deleted. A finished endpoint's veth has the pod's
// address and MAC as a permanent neighbour.
func (d *Datapath) restoreEntries(ctx context.Context) error {
	entries, err := d.maps.endpointEntries()
	if err != nil {
		return err
	}
	known := map[uint32]bool{}
	for _, e := range entries {
		known[e.Ifindex] = true
	}
	veths, err := hostVeths(ctx, d.nl)
	if err != nil {
		return err
	}
	var errs []error
	for name, veth := range veths {
		if known[uint32(veth.Attrs().Index)] {
			continue
		}
		ep, ok, err := d.fromNeighbour(ctx, veth)
		if err != nil || !ok {
			errs = append(errs, err)
			continue
		}
		number, _ := vethNumber(name)
		if err := d.maps.enter(ep.Addr, endpointEntry(ep, number), ebpf.UpdateAny); err != nil {
			errs = append(errs, err)
			continue
		}
		d.log.Info("endpoint is restored", "iface", name, "addr", ep.Addr)
	}
	return errors.Join(errs...)
}

// fromNeighbour makes an endpoint from a host-side veth; not ok when it was never finished.
func (d *Datapath) fromNeighbour(ctx context.Context, veth netlink.Link) (api.Endpoint, bool, error) {
	index := veth.Attrs().Index
	neighbours, err := dump(ctx, func() ([]netlink.Neigh, error) { return d.nl.NeighList(index, netlink.FAMILY_V4) })
	if err != nil {
		return api.Endpoint{}, false, fmt.Errorf("list neighbours on %s: %w", veth.Attrs().Name, err)
	}
	for _, n := range neighbours {
		addr := toAddr(n.IP)
		if n.State&netlink.NUD_PERMANENT == 0 || !d.cfg.PodCIDR.Contains(addr) {
			continue
		}
		return api.Endpoint{
			ID:        d.cfg.endpointID(addr),
			Addr:      addr,
			HostIf:    veth.Attrs().Name,
			HostIndex: index,
			HostMAC:   toMAC(veth.Attrs().HardwareAddr),
			PodMAC:    toMAC(n.HardwareAddr),
		}, true, nil
	}
	return api.Endpoint{}, false, nil
}

// removeDead removes endpoints without a veth, veths without an endpoint, and links and entries by
// interface that belong to neither.
func (d *Datapath) removeDead(ctx context.Context) ([]api.Endpoint, error) {
	entries, err := d.maps.endpointEntries()
	if err != nil {
		return nil, err
	}
	veths, err := hostVeths(ctx, d.nl)
	if err != nil {
		return nil, err
	}
	var (
		removed []api.Endpoint
		errs    []error
		alive   = map[string]netip.Addr{}
		indexes = map[uint32]bool{}
	)
	for addr, e := range entries {
		ep := withoutProgram(addr, e, veths[vethName(e.Veth)])
		if ep.HostIndex != 0 {
			alive[ep.HostIf] = ep.Addr
			indexes[uint32(ep.HostIndex)] = true
			continue
		}
		// A living endpoint may have this one's name by now, so what goes is the address's entry.
		errs = append(errs, d.maps.removeAt(ep.Addr))
		removed = append(removed, ep)
		d.log.Info("dead endpoint is removed", "iface", ep.HostIf, "addr", ep.Addr)
	}
	sortEndpoints(removed)
	errs = append(errs, d.removeStrays(veths, alive), d.forgetInterfaces(indexes))
	return removed, errors.Join(errs...)
}

// removeStrays removes half-made veths and the links of devices that are gone.
func (d *Datapath) removeStrays(veths map[string]netlink.Link, alive map[string]netip.Addr) error {
	pinned, err := d.attacher.remembered()
	errs := []error{err}
	for name := range veths {
		if _, ok := alive[name]; ok {
			continue
		}
		d.log.Warn("half-made endpoint is removed", "iface", name)
		errs = append(errs, deleteLink(d.nl, name), d.attacher.forget(name))
	}
	for _, name := range pinned {
		if _, ok := alive[name]; !ok && hostIfPattern.MatchString(name) {
			errs = append(errs, d.attacher.forget(name))
		}
	}
	return errors.Join(errs...)
}

func (d *Datapath) forgetInterfaces(alive map[uint32]bool) error {
	var dead []uint32
	err := eachEntry(d.maps.ifaces, func(index uint32, _ bpf.IP) {
		if !alive[index] {
			dead = append(dead, index)
		}
	})
	if err != nil {
		return fmt.Errorf("read interfaces: %w", err)
	}
	var errs []error
	for _, index := range dead {
		errs = append(errs, forget(d.maps.ifaces, index))
	}
	return errors.Join(errs...)
}

// attachEndpoints puts the loaded program on every endpoint's veth that runs another, or none, and
// restores what else a live endpoint needs.
func (d *Datapath) attachEndpoints(ctx context.Context) error {
	entries, err := d.maps.endpointEntries()
	if err != nil {
		return err
	}
	veths, err := hostVeths(ctx, d.nl)
	if err != nil {
		return err
	}
	neighbours, err := d.permanentNeighbours(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for addr, e := range entries {
		veth := veths[vethName(e.Veth)]
		if veth == nil || veth.Attrs().Index != int(e.Ifindex) {
			continue // dead: SyncEndpoints removes it
		}
		err := d.attachEndpoint(addr, e, veth, neighbours)
		if err == nil {
			continue
		}
		if now, lookErr := linkByName(d.nl, veth.Attrs().Name); lookErr == nil && now == nil {
			continue // died meanwhile
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// neighbour is an address on a device.
type neighbour struct {
	index int
	addr  netip.Addr
}

// permanentNeighbours are the MACs of the permanent neighbours on all devices. They are asked for at once: each request
// takes the kernel's lock for all devices.
func (d *Datapath) permanentNeighbours(ctx context.Context) (map[neighbour]api.MAC, error) {
	list, err := dump(ctx, func() ([]netlink.Neigh, error) { return d.nl.NeighList(0, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	found := map[neighbour]api.MAC{}
	for _, n := range list {
		if n.State&netlink.NUD_PERMANENT != 0 {
			found[neighbour{n.LinkIndex, toAddr(n.IP)}] = toMAC(n.HardwareAddr)
		}
	}
	return found, nil
}

func (d *Datapath) attachEndpoint(addr netip.Addr, e bpf.Endpoint, veth netlink.Link, neighbours map[neighbour]api.MAC) error {
	if err := d.attacher.attach(podHook(veth), d.progs.fromPod); err != nil {
		return err
	}
	if err := d.maps.ifaces.Put(e.Ifindex, bpf.IPOf(addr)); err != nil {
		return fmt.Errorf("enter interface %d of %s: %w", e.Ifindex, addr, err)
	}
	if err := d.maps.enterNetNS(addr, veth); err != nil {
		return err
	}
	ep := withoutProgram(addr, e, veth)
	if veth.Attrs().RawFlags&unix.IFF_UP == 0 {
		if err := d.nl.LinkSetUp(veth); err != nil {
			return fmt.Errorf("set %s up: %w", ep.HostIf, err)
		}
	}
	if mac, ok := neighbours[neighbour{ep.HostIndex, addr}]; !ok || mac != ep.PodMAC {
		if err := setNeighbour(d.nl, ep); err != nil {
			return err
		}
	}
	return d.setDeviceSysctls(ep.HostIf)
}
