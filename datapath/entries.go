package datapath

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"wirelab.dev/wirelab/bpf"
)

// endpointEntries are all entries of lab_endpoints.
func (m *maps) endpointEntries() (map[netip.Addr]bpf.Endpoint, error) {
	entries := map[netip.Addr]bpf.Endpoint{}
	err := eachEntry(m.endpoints, func(addr bpf.IP, e bpf.Endpoint) { entries[bpf.AddrOf(addr)] = e })
	if err != nil {
		return nil, fmt.Errorf("read endpoints: %w", err)
	}
	return entries, nil
}

// enter writes an endpoint's entries. The entry by interface is written first: as soon as packets find the address, the
// pod may send ARP probes, which are looked up by interface.
func (m *maps) enter(addr netip.Addr, e bpf.Endpoint, flags ebpf.MapUpdateFlags) error {
	if err := m.ifaces.Put(e.Ifindex, bpf.IPOf(addr)); err != nil {
		return fmt.Errorf("enter interface %d of %s: %w", e.Ifindex, addr, err)
	}
	err := m.endpoints.Update(bpf.IPOf(addr), e, flags)
	if err == nil {
		return m.newEndpointGeneration(addr)
	}
	if errors.Is(err, ebpf.ErrKeyExist) {
		err = ErrAddrInUse
	}
	return errors.Join(fmt.Errorf("enter endpoint %s: %w", addr, err), forget(m.ifaces, e.Ifindex))
}

// enterNetNS writes by which id the network namespace of the endpoint behind a host-side veth is known in the node's, where
// Services are looked up: programs look for the pod's sockets. Without it they find none.
func (m *maps) enterNetNS(addr netip.Addr, veth netlink.Link) error {
	id := veth.Attrs().NetNsID
	if m.services == nil || id < 0 {
		return nil
	}
	if err := m.services.netns.Put(bpf.IPOf(addr), uint32(id)); err != nil {
		return fmt.Errorf("enter the network namespace of %s: %w", addr, err)
	}
	return nil
}

// remove undoes enter and enterNetNS, for an entry that was read before. The address rests from before it is free.
func (m *maps) remove(addr netip.Addr, e bpf.Endpoint) error {
	if err := m.rest(addr); err != nil {
		return err
	}
	var errs []error
	if err := forget(m.endpoints, bpf.IPOf(addr)); err != nil {
		errs = append(errs, fmt.Errorf("remove endpoint %s: %w", addr, err))
	}
	if err := forget(m.ifaces, e.Ifindex); err != nil {
		errs = append(errs, fmt.Errorf("remove interface %d of %s: %w", e.Ifindex, addr, err))
	}
	if m.services != nil {
		errs = append(errs, forget(m.services.netns, bpf.IPOf(addr)))
	}
	return errors.Join(append(errs, m.newEndpointGeneration(addr))...)
}

// removeAt undoes enter for the endpoint at an address, if there is one.
func (m *maps) removeAt(addr netip.Addr) error {
	var e bpf.Endpoint
	err := m.endpoints.Lookup(bpf.IPOf(addr), &e)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up endpoint %s: %w", addr, err)
	}
	return m.remove(addr, e)
}

// removeVeth removes the entries of a host-side veth, of which there is one at most unless something
// went wrong, and returns their addresses.
func (m *maps) removeVeth(number uint32) (freed []netip.Addr, err error) {
	entries, err := m.endpointEntries()
	if err != nil {
		return nil, err
	}
	var errs []error
	for addr, e := range entries {
		if e.Veth != number {
			continue
		}
		if err := m.remove(addr, e); err != nil {
			errs = append(errs, err)
			continue
		}
		freed = append(freed, addr)
	}
	return freed, errors.Join(errs...)
}

// forget deletes a key that may not be there.
func forget(m *ebpf.Map, key any) error {
	if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}
