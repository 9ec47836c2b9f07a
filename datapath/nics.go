package datapath

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// nics are the NICs in use, as they were last found.
type nics struct {
	mu      sync.Mutex
	names   []string // sorted
	leftOut []string // sorted
	mtu     int
}

func (d *Datapath) devices() []string {
	d.nics.mu.Lock()
	defer d.nics.mu.Unlock()
	return slices.Clone(d.nics.names)
}

// mtu is the pods' interfaces'.
func (d *Datapath) mtu() int {
	d.nics.mu.Lock()
	defer d.nics.mu.Unlock()
	return d.nics.mtu
}

// LeftOut lists the devices that connect the node with others but cannot carry the programs, each with the reason.
func (d *Datapath) LeftOut() []string {
	d.nics.mu.Lock()
	defer d.nics.mu.Unlock()
	return slices.Clone(d.nics.leftOut)
}

// nic is a device of the node that may be one of its NICs.
type nic struct {
	name   string
	mtu    int
	kind   string // as netlink has it: "device", "veth", "bond", …
	encap  string // "ether", or what else its frames begin with
	master string // the kind of the device that it belongs to; empty when to none
	ports  []string
	addrs  []netip.Prefix // of global scope
	// leads says that a default route goes by it.
	leads bool
}

func (n nic) ethernet() bool { return n.encap == "ether" }

// has says whether an address is the NIC's.
func (n nic) has(addr netip.Addr) bool {
	return slices.ContainsFunc(n.addrs, func(p netip.Prefix) bool { return p.Addr() == addr })
}

// outward says whether the NIC connects the node with others, as far as can be told: it has a default route,
// the node's address, or one in a network. Of the devices of containers and virtual machines (a bridge with
// nothing but those in it, or the node's end of a veth, with an address at most that is a network of its own)
// and of what only holds addresses, none counts that does not have a default route or the node's address.
func (n nic) outward(node netip.Addr) bool {
	if n.master != "" && n.master != "vrf" {
		return false
	}
	if n.leads || n.has(node) {
		return true
	}
	switch n.kind {
	case "dummy", "ifb", "vrf", "nlmon":
		return false
	case "bridge":
		if !slices.ContainsFunc(n.ports, func(kind string) bool { return kind != "veth" && kind != "tuntap" }) {
			return false
		}
	}
	return slices.ContainsFunc(n.addrs, func(p netip.Prefix) bool { return p.Bits() < p.Addr().BitLen() })
}

// noEthernet is why a device cannot carry Services, nor be masqueraded at.
func (n nic) noEthernet() string {
	return fmt.Sprintf("%s has no Ethernet header (it is a %s device, %s)", n.name, n.kind, n.encap)
}

// findNICs brings the NICs in use up to date: those in Config.Devices, or all that connect the node with
// others. Those that are named and cannot be used are an error; the others are in use all the same.
func (d *Datapath) findNICs(ctx context.Context) error {
	all, err := d.listNICs(ctx)
	if err != nil {
		return err
	}
	var (
		chosen  []nic
		leftOut []string
	)
	if len(d.cfg.Devices) > 0 {
		chosen, err = namedNICs(all, d.cfg.Devices)
	} else {
		chosen, leftOut, err = d.outwardNICs(all)
	}
	d.useNICs(chosen, leftOut)
	return err
}

func namedNICs(all []nic, names []string) (chosen []nic, err error) {
	var errs []error
	for _, name := range names {
		i := slices.IndexFunc(all, func(n nic) bool { return n.name == name })
		switch {
		case i < 0:
			errs = append(errs, fmt.Errorf("device %s does not exist: name a NIC of this node", name))
		case !all[i].ethernet():
			errs = append(errs, fmt.Errorf("device %s: take it out of devices", all[i].noEthernet()))
		default:
			chosen = append(chosen, all[i])
		}
	}
	return chosen, errors.Join(errs...)
}

// outwardNICs chooses the NICs. The one that had the node's address stays chosen until another has it: while somebody
// changes the address of a NIC, it does not lose its programs.
func (d *Datapath) outwardNICs(all []nic) (chosen []nic, leftOut []string, err error) {
	node := d.cfg.NodeIP
	known := slices.ContainsFunc(all, func(n nic) bool { return n.has(node) })
	for _, n := range all {
		kept := !known && slices.Contains(d.devices(), n.name)
		switch {
		case n.encap == "loopback" || isOwnDevice(n.name) || !kept && !n.outward(node):
		case !n.ethernet():
			leftOut = append(leftOut, n.noEthernet())
		default:
			chosen = append(chosen, n)
		}
	}
	if !known {
		err = fmt.Errorf("no device has the node's address %s: set devices, or mend the node's address", node)
	} else if len(chosen) == 0 {
		err = errors.New("no NIC is found: set devices")
	}
	return chosen, leftOut, err
}

func isOwnDevice(name string) bool {
	return name == hostDevice || name == netDevice || isTunnelDevice(name) || hostIfPattern.MatchString(name)
}

// useNICs takes these. The MTU, where it is not set, is that of the NIC with the node's address, by which pods
// reach those of other nodes, or the smallest of those that are named. Without any NIC it stays as it is.
func (d *Datapath) useNICs(chosen []nic, leftOut []string) {
	names := make([]string, 0, len(chosen))
	mtu := 0
	for _, n := range chosen {
		names = append(names, n.name)
		if mtu == 0 || n.mtu < mtu {
			mtu = n.mtu
		}
	}
	i := slices.IndexFunc(chosen, func(n nic) bool { return n.has(d.cfg.NodeIP) })
	if len(d.cfg.Devices) == 0 && i >= 0 {
		mtu = chosen[i].mtu
	}
	if d.cfg.MTU != 0 {
		mtu = d.cfg.MTU
	}
	slices.Sort(names)
	slices.Sort(leftOut)
	n := &d.nics
	n.mu.Lock()
	defer n.mu.Unlock()
	if mtu == 0 {
		mtu = n.mtu
	}
	if n.names != nil && (!slices.Equal(n.names, names) || !slices.Equal(n.leftOut, leftOut) || n.mtu != mtu) {
		d.log.Info("NICs are others", "devices", names, "leftOut", strings.Join(leftOut, "; "), "mtu", mtu)
	}
	n.names, n.leftOut, n.mtu = names, leftOut, mtu
}

// listNICs lists the node's devices with what the choice rests on.
func (d *Datapath) listNICs(ctx context.Context) ([]nic, error) {
	links, err := dump(ctx, d.nl.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	addrs, err := dump(ctx, func() ([]netlink.Addr, error) { return d.nl.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	routes, err := dump(ctx, func() ([]netlink.Route, error) {
		any := &netlink.Route{Table: unix.RT_TABLE_UNSPEC, Dst: ipNet(defaultPrefix)}
		return d.nl.RouteListFiltered(netlink.FAMILY_V4, any, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
	})
	if err != nil {
		return nil, fmt.Errorf("list default routes: %w", err)
	}
	kinds, ports := map[int]string{}, map[int][]string{}
	for _, l := range links {
		a := l.Attrs()
		kinds[a.Index] = l.Type()
		if a.MasterIndex != 0 {
			ports[a.MasterIndex] = append(ports[a.MasterIndex], l.Type())
		}
	}
	leads := map[int]bool{}
	for _, r := range routes {
		leads[r.LinkIndex] = true
		for _, hop := range r.MultiPath {
			leads[hop.LinkIndex] = true
		}
	}
	all := make([]nic, 0, len(links))
	for _, l := range links {
		a := l.Attrs()
		n := nic{
			name: a.Name, mtu: a.MTU, kind: l.Type(), encap: a.EncapType,
			master: kinds[a.MasterIndex], ports: ports[a.Index], leads: leads[a.Index],
		}
		for _, addr := range addrs {
			if p, ok := toPrefix(addr.IPNet); ok && addr.LinkIndex == a.Index && addr.Scope == unix.RT_SCOPE_UNIVERSE {
				n.addrs = append(n.addrs, p)
			}
		}
		all = append(all, n)
	}
	return all, nil
}
