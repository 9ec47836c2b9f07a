package datapath

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"wirelab.dev/wirelab/bpf"
)

// servicePrograms are those that only the modes have that translate Services.
type servicePrograms struct {
	fromNetwork, toNetwork *ebpf.Program // tcx ingress and egress of every NIC
	sock                   bpf.SockPrograms
	connected              *ebpf.Program       // lists the node's UDP sockets that are connected to backends
	told                   bpf.NetdevVariables // what the programs at the NICs were told; all nil where there are none
}

// cutAt tells the programs at the NICs and at the tunnel the device at which the stack receives packets that it has to
// fragment.
func (p *programs) cutAt(host *netlink.LinkAttrs) error {
	// struct neighbour of bpf/lib/deliver.h
	var at struct {
		Ifindex     uint32
		MAC, OwnMAC [6]byte
	}
	at.Ifindex = uint32(host.Index) //nolint:gosec // it is positive
	copy(at.MAC[:], host.HardwareAddr)
	copy(at.OwnMAC[:], host.HardwareAddr)
	_, err := tell(p.fragmenters, "lab_fragmenter", at)
	return err
}

func (p *servicePrograms) load(l loader) error {
	var nics struct {
		LabFromNetwork *ebpf.Program `ebpf:"lab_from_network"`
		LabToNetwork   *ebpf.Program `ebpf:"lab_to_network"`
		bpf.NetdevVariables
	}
	if err := l.load(bpf.LoadNetdev, &nics); err != nil {
		return err
	}
	p.fromNetwork, p.toNetwork, p.told = nics.LabFromNetwork, nics.LabToNetwork, nics.NetdevVariables
	if err := l.load(bpf.LoadSock, &p.sock); err != nil {
		return err
	}
	var list bpf.ConnectedPrograms
	err := l.load(bpf.LoadConnected, &list)
	p.connected = list.LabConnected
	return err
}

// masquerades says whether the programs loaded for the NICs do, and what they spare.
func (p *servicePrograms) masquerades() (on bool, native netip.Prefix, err error) {
	if p.told.CfgMasquerade == nil {
		return false, native, nil
	}
	var cidr, mask bpf.IP
	if err := errors.Join(p.told.CfgMasquerade.Get(&on), p.told.CfgNativeCidr.Get(&cidr), p.told.CfgNativeMask.Get(&mask)); err != nil {
		return false, native, fmt.Errorf("read what the NICs' programs masquerade: %w", err)
	}
	bits, _ := net.IPMask(mask.B[:]).Size()
	return on, netip.PrefixFrom(bpf.AddrOf(cidr), bits-128+bpf.AddrOf(cidr).BitLen()), nil
}

func (p *servicePrograms) list() []*ebpf.Program {
	list := []*ebpf.Program{p.fromNetwork, p.toNetwork, p.connected}
	for _, s := range p.sockets() {
		list = append(list, s.prog)
	}
	return list
}

// nicHooks are the two places at a NIC. A pin's name may not have dots, which VLAN devices' names have.
func nicHooks(device string, index int) (in, out hook) {
	pin := strings.ReplaceAll(device, ".", ",")
	in = hook{device: device, index: index, attach: ebpf.AttachTCXIngress, prog: bpf.NetdevProgLabFromNetwork, pin: pin + "_in"}
	out = hook{device: device, index: index, attach: ebpf.AttachTCXEgress, prog: bpf.NetdevProgLabToNetwork, pin: pin + "_out"}
	return in, out
}

func isServiceLink(pin string) bool { return strings.HasPrefix(pin, socketPinPrefix) || isNICLink(pin) }

func isNICLink(pin string) bool {
	return strings.HasSuffix(pin, "_in") || strings.HasSuffix(pin, "_out")
}

// attachNICs attaches the programs to every NIC in use, and detaches them from all other devices: NICs that are no longer in
// use, and all of them after a change to a mode without these programs. The program for answers is attached first, so that
// no answer leaves with an address that its client does not know.
func (d *Datapath) attachNICs(ctx context.Context) error {
	devices := d.devices()
	if !d.cfg.KubeProxyReplacement {
		devices = nil
	}
	errs := []error{d.detachOthers(ctx, devices)}
	for _, name := range devices {
		l, err := linkByName(d.nl, name)
		if err == nil && l == nil {
			continue // just gone: there will be another look
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		in, out := nicHooks(name, l.Attrs().Index)
		if err := d.attacher.attach(out, d.progs.services.toNetwork); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, d.attacher.attach(in, d.progs.services.fromNetwork))
	}
	return errors.Join(errs...)
}

// detachOthers takes the NICs' programs off the devices that are not listed. A NIC that has another name now
// loses them for a moment.
func (d *Datapath) detachOthers(ctx context.Context, devices []string) error {
	if _, ok := d.attacher.(tcx); !ok {
		return cleanNICs(ctx, d.nl, devices...)
	}
	keep := map[string]bool{}
	for _, name := range devices {
		in, out := nicHooks(name, 0)
		keep[in.pin], keep[out.pin] = true, true
	}
	pinned, err := d.pins.pinnedLinks()
	errs := []error{err}
	for _, pin := range pinned {
		if isNICLink(pin) && !keep[pin] {
			errs = append(errs, d.pins.unpinLink(pin))
			d.log.Info("program is taken off a device that is no NIC in use", "link", pin)
		}
	}
	return errors.Join(errs...)
}

// maskOf is a prefix's mask in the form of an address, all ones in front of IPv4's part.
func maskOf(p netip.Prefix) (mask bpf.IP) {
	copy(mask.B[:], net.CIDRMask(128-p.Addr().BitLen()+p.Bits(), 128))
	return mask
}
