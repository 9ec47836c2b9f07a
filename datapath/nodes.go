package datapath

import (
	"context"
	"fmt"
	stdmaps "maps"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
)

const (
	nodeFlag  = bpf.PodLabNodeFlagLAB_IS_NODE
	localFlag = bpf.PodLabNodeFlagLAB_IS_LOCAL
)

// enterNodes writes into lab_nodes which addresses are those of nodes, and enterLocal which are this node's. Each leaves
// the other's flag as it is.
func (d *Datapath) enterNodes(addrs []netip.Addr) error {
	if err := d.enterFlag(nodeFlag, addrs); err != nil {
		return fmt.Errorf("enter the nodes' addresses: %w", err)
	}
	return nil
}

func (d *Datapath) enterLocal(ctx context.Context) error {
	if !d.cfg.KubeProxyReplacement {
		return nil
	}
	list, err := dump(ctx, func() ([]netlink.Addr, error) { return d.nl.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	addrs := make([]netip.Addr, 0, len(list))
	for _, a := range list {
		addrs = append(addrs, toAddr(a.IP))
	}
	if err := d.enterFlag(localFlag, addrs); err != nil {
		return fmt.Errorf("enter the node's own addresses: %w", err)
	}
	return d.enterDevices(list)
}

// enterFlag gives the flag to these addresses, and takes it from all others.
func (d *Datapath) enterFlag(flag bpf.NodeFlag, addrs []netip.Addr) error {
	d.nodes.Lock()
	defer d.nodes.Unlock()
	m := d.maps.services.nodes
	have := map[bpf.IP]bpf.NodeFlag{}
	if err := eachEntry(m, func(a bpf.IP, n bpf.Node) { have[a] = n.Flags }); err != nil {
		return err
	}
	want := map[bpf.IP]bpf.NodeFlag{}
	for a, flags := range have {
		want[a] = flags &^ flag
	}
	for _, a := range addrs {
		want[bpf.IPOf(a)] |= flag
	}
	if stdmaps.Equal(have, want) {
		return nil
	}
	for a, flags := range want {
		var err error
		switch {
		case flags == 0:
			err = forget(m, a)
		case flags != have[a]:
			err = m.Put(a, bpf.Node{Flags: flags})
		}
		if err != nil {
			return fmt.Errorf("%s: %w", bpf.AddrOf(a), err)
		}
	}
	return d.maps.newGeneration()
}

// enterDevices says by which address each NIC masquerades: the node's where it has that, otherwise the
// first one of its own. A NIC that has none takes the node's too.
func (d *Datapath) enterDevices(list []netlink.Addr) error {
	m := d.maps.services.devices
	want := map[uint32]bpf.IP{}
	for _, name := range d.devices() {
		l, err := linkByName(d.nl, name)
		if err != nil {
			return err
		}
		if l == nil {
			continue
		}
		if a := addressOf(list, l.Attrs().Index, d.cfg.NodeIP); a.IsValid() {
			want[uint32(l.Attrs().Index)] = bpf.IPOf(a)
		}
	}
	have := map[uint32]bpf.IP{}
	if err := eachEntry(m, func(index uint32, a bpf.IP) { have[index] = a }); err != nil {
		return fmt.Errorf("read the NICs' addresses: %w", err)
	}
	if stdmaps.Equal(have, want) {
		return nil
	}
	for index, a := range want {
		if err := m.Update(index, a, ebpf.UpdateAny); err != nil {
			return fmt.Errorf("enter the NICs' addresses: %w", err)
		}
	}
	for index := range have {
		if _, ok := want[index]; ok {
			continue
		}
		if err := forget(m, index); err != nil {
			return fmt.Errorf("remove an address of a NIC that is gone: %w", err)
		}
	}
	return d.maps.newGeneration()
}

func addressOf(list []netlink.Addr, device int, preferred netip.Addr) (first netip.Addr) {
	for _, a := range list {
		if a.LinkIndex != device || a.Scope != unix.RT_SCOPE_UNIVERSE {
			continue
		}
		addr := toAddr(a.IP)
		if addr == preferred {
			return addr
		}
		if !first.IsValid() {
			first = addr
		}
	}
	return first
}
