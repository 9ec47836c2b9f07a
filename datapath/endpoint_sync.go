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
// returns the endpoints that are there then, sorted by address and without Attached; when it fails, none.
func (d *Datapath) SyncEndpoints(ctx context.Context) ([]api.Endpoint, error) {
	seen, err := d.restoreEntries(ctx)
	if err != nil {
		return nil, err
	}
	if err := d.removeDead(seen); err != nil {
		return nil, err
	}
	if err := d.attachEndpoints(ctx, seen); err != nil {
		return nil, err
	}
	live := make([]api.Endpoint, 0, len(seen.entries))
	for addr, e := range seen.entries {
		live = append(live, withoutProgram(addr, e, seen.veth(e)))
	}
	sortEndpoints(live)
	return live, nil
}

// restoreEntries enters the endpoints that netlink knows and the map does not: all of them after a
// change of layout, and those whose entries somebody deleted. A finished endpoint's veth has the pod's
// address and MAC as a permanent neighbour. It returns what there is then.
func (d *Datapath) restoreEntries(ctx context.Context) (seenEndpoints, error) {
	seen, err := d.look(ctx)
	if err != nil {
		return seen, err
	}
	known := map[uint32]bool{}
	for _, e := range seen.entries {
		known[e.Ifindex] = true
	}
	var errs []error
	for name, veth := range seen.veths {
		if known[uint32(veth.Attrs().Index)] {
			continue
		}
		ep, ok, err := d.fromNeighbour(ctx, veth)
		if err != nil || !ok {
			errs = append(errs, err)
			continue
		}
		entry := endpointEntry(ep)
		if err := d.maps.enter(ep.Addr, entry, ebpf.UpdateAny); err != nil {
			errs = append(errs, err)
			continue
		}
		seen.entries[ep.Addr] = entry
		d.log.Info("endpoint is restored", "iface", name, "addr", ep.Addr)
	}
	return seen, errors.Join(errs...)
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
func (d *Datapath) removeDead(seen seenEndpoints) error {
	var (
		errs    []error
		alive   = map[string]bool{}
		indexes = map[uint32]bool{}
	)
	for addr, e := range seen.entries {
		if seen.veth(e) != nil {
			alive[vethName(e.Veth)] = true
			indexes[e.Ifindex] = true
			continue
		}
		// A living endpoint may have this one's name by now, so what goes is the address's entry.
		errs = append(errs, d.maps.removeAt(addr))
		delete(seen.entries, addr)
		d.log.Info("dead endpoint is removed", "iface", vethName(e.Veth), "addr", addr)
	}
	return errors.Join(append(errs, d.removeStrays(seen.veths, alive), d.forgetInterfaces(indexes))...)
}

// removeStrays removes half-made veths and the links of devices that are gone.
func (d *Datapath) removeStrays(veths map[string]netlink.Link, alive map[string]bool) error {
	pinned, err := d.attacher.remembered()
	errs := []error{err}
	for name := range veths {
		if alive[name] {
			continue
		}
		d.log.Warn("half-made endpoint is removed", "iface", name)
		errs = append(errs, deleteLink(d.nl, name), d.attacher.forget(name))
	}
	for _, name := range pinned {
		if !alive[name] && hostIfPattern.MatchString(name) {
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

// attachEndpoints puts the loaded program on the veth of every endpoint seen that runs another, or none, and
// restores what else a live endpoint needs.
func (d *Datapath) attachEndpoints(ctx context.Context, seen seenEndpoints) error {
	neighbours, err := d.permanentNeighbours(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for addr, e := range seen.entries {
		veth := seen.veth(e)
		if veth == nil {
			continue // dead: SyncEndpoints removes it
		}
		err := d.attachEndpoint(addr, e, veth, neighbours)
		if err == nil {
			continue
		}
		if now, lookErr := linkByName(d.nl, veth.Attrs().Name); lookErr == nil && now == nil {
			continue // died meanwhile: the kernel's message about it brings the next look
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
