package datapath

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/settings"
)

// Status reads the data plane back from kernel objects. Parts that cannot be read are reported in the
// error, joined; the rest is filled in all the same.
func (d *Datapath) Status(ctx context.Context) (api.Datapath, error) {
	s := api.Datapath{NodeIP: d.cfg.NodeIP, PodCIDR: d.cfg.PodCIDR, Routing: d.cfg.routing(), AttachMode: d.attacher.kind()}
	err := errors.Join(
		d.modeStatus(&s),
		d.programStatus(ctx, &s),
		d.deviceStatus(ctx, &s),
		d.mapStatus(&s),
		d.routeStatus(ctx, &s),
		d.tunnelStatus(&s),
		d.iptablesStatus(ctx, &s),
		d.bpfMasqueradeStatus(&s),
		d.untrackedStatus(ctx, &s),
		d.sysctlStatus(&s),
		d.servicesStatus(&s),
		d.monitorStatus(&s),
	)
	return s, err
}

// modeStatus says what the loaded programs do, whatever they were asked to.
func (d *Datapath) modeStatus(s *api.Datapath) error {
	mode, err := d.progs.inForce()
	if err != nil {
		return err
	}
	s.Mode, s.Routing.Host = string(mode), string(settings.RoutingLegacy)
	if mode == settings.ModeEBPF {
		s.Routing.Host = string(settings.RoutingBPF)
	}
	return nil
}

// bpfMasqueradeStatus finds the NICs whose running programs masquerade.
func (d *Datapath) bpfMasqueradeStatus(s *api.Datapath) error {
	on, cidr, err := d.progs.services.masquerades()
	if !on || err != nil {
		return err
	}
	devices, err := d.nicsRunning()
	if len(devices) > 0 {
		s.Masquerading.Enabled, s.Masquerading.Kind = true, string(settings.MasqueradeBPF)
		s.Masquerading.Devices, s.Masquerading.NativeCIDR = devices, cidr
	}
	return err
}

func (d *Datapath) programStatus(ctx context.Context, s *api.Datapath) (err error) {
	if s.MonitorAggregation, err = d.progs.aggregated(); err != nil {
		return err
	}
	hooks, err := d.hooks(ctx)
	if err != nil {
		return err
	}
	byID := map[ebpf.ProgramID]*api.Program{}
	for _, h := range hooks {
		id, err := d.attacher.running(h)
		if err != nil {
			return err
		}
		if id == 0 {
			continue
		}
		if byID[id] == nil {
			if byID[id], err = describeProgram(id); err != nil {
				return err
			}
			byID[id].Hook = d.attacher.kind() + " " + h.direction()
		}
		byID[id].AttachedTo = append(byID[id].AttachedTo, h.device)
	}
	for _, p := range byID {
		slices.Sort(p.AttachedTo)
		s.Programs = append(s.Programs, *p)
	}
	slices.SortFunc(s.Programs, func(a, b api.Program) int { return cmp.Compare(a.ID, b.ID) })
	return nil
}

// hooks are the places where programs of ours belong.
func (d *Datapath) hooks(ctx context.Context) ([]hook, error) {
	veths, err := hostVeths(ctx, d.nl)
	if err != nil {
		return nil, err
	}
	var hooks []hook
	for _, veth := range veths {
		hooks = append(hooks, podHook(veth))
	}
	for _, name := range append(d.cfg.ownDevices(), d.devices()...) {
		l, err := linkByName(d.nl, name)
		if err != nil {
			return nil, err
		}
		switch {
		case l == nil || name == netDevice:
		case name == hostDevice:
			hooks = append(hooks, hostHook(l))
		case name == d.cfg.tunnelDevice():
			hooks = append(hooks, tunnelHook(l))
		case d.cfg.KubeProxyReplacement:
			in, out := nicHooks(name, l.Attrs().Index)
			hooks = append(hooks, in, out)
		}
	}
	return hooks, nil
}

func describeProgram(id ebpf.ProgramID) (*api.Program, error) {
	prog, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return nil, fmt.Errorf("open program %d: %w", id, err)
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return nil, fmt.Errorf("read program %d: %w", id, err)
	}
	return &api.Program{Name: info.Name, ID: uint32(id), Tag: info.Tag}, nil
}

func (d *Datapath) deviceStatus(ctx context.Context, s *api.Datapath) error {
	var errs []error
	for _, name := range append(d.devices(), d.cfg.ownDevices()...) {
		l, err := linkByName(d.nl, name)
		if err == nil && l == nil {
			err = fmt.Errorf("device %s is gone", name)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		addrs, err := dump(ctx, func() ([]netlink.Addr, error) { return d.nl.AddrList(l, netlink.FAMILY_V4) })
		errs = append(errs, err)
		a := l.Attrs()
		dev := api.Device{Name: name, Index: a.Index, MTU: a.MTU, Up: a.RawFlags&unix.IFF_UP != 0}
		for _, addr := range addrs {
			if p, ok := toPrefix(addr.IPNet); ok {
				dev.Addrs = append(dev.Addrs, p)
			}
			if name == hostDevice {
				s.Router = toAddr(addr.IP)
			}
		}
		if name == hostDevice {
			s.MTU = a.MTU
		}
		s.Devices = append(s.Devices, dev)
	}
	return errors.Join(errs...)
}

func (d *Datapath) mapStatus(s *api.Datapath) error {
	var errs []error
	for name, slot := range d.maps.byName() {
		m := *slot
		info, err := m.Info()
		if err != nil {
			errs = append(errs, fmt.Errorf("read map %s: %w", name, err))
			continue
		}
		id, _ := info.ID()
		memory, _ := info.Memlock()
		entries, err := countEntries(m)
		errs = append(errs, err)
		s.Maps = append(s.Maps, api.Map{Name: name, ID: uint32(id), Entries: entries, MaxEntries: int(info.MaxEntries), MemoryBytes: memory})
	}
	slices.SortFunc(s.Maps, func(a, b api.Map) int { return strings.Compare(a.Name, b.Name) })
	return errors.Join(errs...)
}

// countEntries is -1 for maps whose entries are always all there, or none.
func countEntries(m *ebpf.Map) (int, error) {
	if m.Type() != ebpf.Hash && m.Type() != ebpf.LRUHash {
		return -1, nil
	}
	count := 0
	err := eachRaw(m, func(_, _ []byte) { count++ })
	return count, err
}

func (d *Datapath) routeStatus(ctx context.Context, s *api.Datapath) error {
	routes, err := ownRoutes(ctx, d.nl)
	if err != nil {
		return err
	}
	for _, r := range routes {
		dst, _ := toPrefix(r.Dst)
		if dst == d.cfg.PodCIDR {
			continue // to this node's own pods
		}
		l, err := d.nl.LinkByIndex(r.LinkIndex)
		if err != nil {
			return fmt.Errorf("look up the device of the route to %s: %w", dst, err)
		}
		s.Routing.Routes = append(s.Routing.Routes, api.NodeRoute{PodCIDR: dst, Via: toAddr(r.Gw), Device: l.Attrs().Name})
	}
	slices.SortFunc(s.Routing.Routes, func(a, b api.NodeRoute) int { return a.PodCIDR.Addr().Compare(b.PodCIDR.Addr()) })
	return nil
}

func (d *Datapath) iptablesStatus(ctx context.Context, s *api.Datapath) error {
	t := d.iptables("nat")
	table, err := t.readNAT(ctx)
	if err != nil {
		return err
	}
	s.HostPorts = len(table[hostPortChain])
	if s.Masquerading.Backend, err = t.backend(ctx); err != nil {
		return err
	}
	if !slices.Contains(table[masqueradeJump.from], masqueradeJump.rule) {
		return nil
	}
	for _, rule := range table[masqueradeChain] {
		if !jumpsTo(rule, "MASQUERADE") {
			continue
		}
		s.Masquerading.Enabled, s.Masquerading.Kind = true, string(settings.MasqueradeIPTables)
		if _, rest, ok := strings.Cut(rule, "! -d "); ok {
			cidr, _, _ := strings.Cut(rest, " ")
			s.Masquerading.NativeCIDR, _ = netip.ParsePrefix(cidr)
		}
	}
	return nil
}

func (d *Datapath) sysctlStatus(s *api.Datapath) error {
	found, err := rememberedSysctls(d.maps.sysctls)
	if err != nil {
		return err
	}
	for _, path := range sysctlsOf(d.cfg.Mode()) {
		value, err := readSysctl(d.cfg.Proc, path)
		if err != nil {
			return err
		}
		s.Sysctls = append(s.Sysctls, api.Sysctl{Name: strings.ReplaceAll(path, "/", "."), Value: value, Found: found[path]})
	}
	return nil
}
