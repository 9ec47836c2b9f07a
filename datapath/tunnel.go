package datapath

import (
	"context"
	"errors"
	"fmt"
	stdmaps "maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/settings"
)

// tunnelDevices are the devices of tunnels by their protocols. What goes to other nodes' pods leaves by the one in use,
// wrapped in packets between nodes, and what comes from there comes out of it.
var tunnelDevices = map[string]string{settings.TunnelVXLAN: "lab_vxlan", settings.TunnelGeneve: "lab_geneve"}

func isTunnelDevice(name string) bool {
	return slices.Contains(slices.Collect(stdmaps.Values(tunnelDevices)), name)
}

// tunnelDevice is the one that cfg asks for; empty when it asks for none.
func (c Config) tunnelDevice() string {
	protocol, _, _ := c.Tunnel()
	return tunnelDevices[protocol]
}

// tunnelPrograms are what only a node with a tunnel has.
type tunnelPrograms struct {
	FromTunnel *ebpf.Program `ebpf:"lab_from_tunnel"` // tcx ingress of the tunnel's device
	bpf.NetdevVariables
}

// tunnelHook is where packets come out of the tunnel.
func tunnelHook(l netlink.Link) hook {
	return hook{device: l.Attrs().Name, index: l.Attrs().Index, attach: ebpf.AttachTCXIngress, prog: bpf.NetdevProgLabFromTunnel}
}

// ensureTunnel makes the device of the tunnel that is asked for be there, with its program, and no other.
func (v *Devices) ensureTunnel() error {
	want := v.d.cfg.tunnelDevice()
	var errs []error
	for _, name := range tunnelDevices {
		if name != want {
			errs = append(errs, v.removeTunnel(name))
		}
	}
	if want != "" {
		errs = append(errs, v.ensureTunnelDevice(want))
	}
	return errors.Join(errs...)
}

// ensureTunnelDevice tells the programs of a new device when its own is in place: they send nothing into it until then.
func (v *Devices) ensureTunnelDevice(name string) error {
	l, err := v.tunnelLink(name)
	if err != nil {
		return err
	}
	if err := v.d.attacher.attach(tunnelHook(l), v.d.progs.tunnel.FromTunnel); err != nil {
		return err
	}
	if err := v.ensureTunnelUp(l); err != nil {
		return err
	}
	return v.d.tellTunnel()
}

func (v *Devices) removeTunnel(name string) error {
	return errors.Join(deleteLink(v.d.nl, name), v.d.attacher.forget(name))
}

// tunnelLink is the tunnel's device. One that is not as it has to be cannot be changed: it is made anew.
func (v *Devices) tunnelLink(name string) (netlink.Link, error) {
	l, err := linkByName(v.d.nl, name)
	if err != nil {
		return nil, err
	}
	_, port, _ := v.d.cfg.Tunnel()
	if l != nil && isTunnel(l, port) {
		return l, nil
	}
	if l != nil {
		v.d.log.Warn("the tunnel's device is not as it has to be and is made anew", "iface", name, "kind", l.Type())
		if err := v.removeTunnel(name); err != nil {
			return nil, err
		}
	}
	if err := v.createTunnel(name, port); err != nil {
		return nil, err
	}
	v.d.log.Info("device is made", "iface", name, "port", port)
	return v.d.nl.LinkByName(name)
}

// isTunnel says whether a device takes from programs where each packet goes, and is at that port.
func isTunnel(l netlink.Link, port int) bool {
	switch l := l.(type) {
	case *netlink.Vxlan:
		return l.Attrs().Name == tunnelDevices[settings.TunnelVXLAN] && l.FlowBased && l.Port == port
	case *netlink.Geneve:
		return l.Attrs().Name == tunnelDevices[settings.TunnelGeneve] && l.FlowBased && int(l.Dport) == port
	}
	return false
}

func (v *Devices) createTunnel(name string, port int) error {
	attrs := netlink.NewLinkAttrs()
	mac := newMAC()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = name, v.d.mtu(), mac[:]
	protocol, _, _ := v.d.cfg.Tunnel()
	var l netlink.Link = &netlink.Vxlan{LinkAttrs: attrs, FlowBased: true, Port: port}
	if protocol == settings.TunnelGeneve {
		l = &netlink.Geneve{LinkAttrs: attrs, FlowBased: true, Dport: uint16(port)} //nolint:gosec // validated
	}
	err := v.d.nl.LinkAdd(l)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("create device %s: this kernel has no %s devices: load its module %s, use a kernel that has it, or set tunnelProtocol to another one", name, protocol, protocol)
	case errors.Is(err, unix.EEXIST), errors.Is(err, unix.EBUSY), errors.Is(err, unix.EADDRINUSE),
		errors.Is(err, unix.EPERM) && protocol == settings.TunnelGeneve: // beside a device that has its far ends; who may not make devices has not made lab_host
		return fmt.Errorf("create device %s: another %s device of the node has UDP port %d: remove that, or set tunnelPort", name, protocol, port)
	case err != nil:
		return fmt.Errorf("create device %s: %w", name, err)
	}
	return nil
}

// ensureTunnelUp gives the device the MTU of the pods' interfaces: what is too large for the tunnel the programs see to, and
// large sends are cut up behind it.
func (v *Devices) ensureTunnelUp(l netlink.Link) error {
	err := v.ensureUp(l)
	if errors.Is(err, unix.EADDRINUSE) {
		_, port, _ := v.d.cfg.Tunnel()
		return fmt.Errorf("%w: another process or device of the node has UDP port %d: end or remove it, or set tunnelPort", err, port)
	}
	return err
}

// tellTunnel tells the programs by which device the tunnel is entered, if it is there. Nothing that they remember has it.
func (d *Datapath) tellTunnel() error {
	name := d.cfg.tunnelDevice()
	if name == "" {
		return nil
	}
	l, err := linkByName(d.nl, name)
	if l == nil || err != nil {
		return err
	}
	_, err = tell(d.progs.tunnelDevices, "tunnel device", uint32(l.Attrs().Index)) //nolint:gosec // it is positive
	return err
}

// tunnelStatus says what the tunnel's device is.
func (d *Datapath) tunnelStatus(s *api.Datapath) error {
	name := d.cfg.tunnelDevice()
	if name == "" {
		return nil
	}
	l, err := linkByName(d.nl, name)
	if l == nil || err != nil {
		return err // that it is gone is said with the other devices
	}
	s.Routing.Tunnel = &api.Tunnel{Protocol: l.Type(), Device: name, MTU: d.cfg.PodMTU(d.mtu())}
	switch l := l.(type) {
	case *netlink.Vxlan:
		s.Routing.Tunnel.Port = l.Port
	case *netlink.Geneve:
		s.Routing.Tunnel.Port = int(l.Dport)
	}
	return nil
}

// ErrNoTunnel is returned where other nodes' pods are reached without one.
var ErrNoTunnel = errors.New("there is no tunnel")

// Ends lists where packets to other nodes' pods come out of the tunnel, sorted by podCIDR.
func (c *IPCache) Ends(ctx context.Context) ([]api.TunnelEnd, error) {
	if c.d.cfg.tunnelDevice() == "" {
		return nil, ErrNoTunnel
	}
	entries, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	var ends []api.TunnelEnd
	for _, e := range entries {
		if e.Node.IsValid() && e.Prefix.Bits() < e.Prefix.Addr().BitLen() {
			ends = append(ends, api.TunnelEnd{PodCIDR: e.Prefix, Node: e.Node})
		}
	}
	return ends, nil
}
