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

// Status is the data plane as read back from the kernel.
type Status struct {
	// Mode is the one in force.
	Mode settings.Mode `json:"mode"`
	// Attach is how programs are attached: "tcx", or "clsact" on kernels before 6.6.
	Attach             string            `json:"attach"`
	HostRouting        HostRoutingStatus `json:"hostRouting"`
	Router             netip.Addr        `json:"router"`
	MTU                int               `json:"mtu"`
	MonitorAggregation string            `json:"monitorAggregation"`
	Devices            []api.Device      `json:"devices"`
	// LeftOut says which devices that connect the node with others carry no Services and are not masqueraded at,
	// and why.
	LeftOut    []string         `json:"leftOut,omitempty"`
	Programs   []api.Program    `json:"programs"`
	Maps       []api.Map        `json:"maps"`
	Routes     []api.NodeRoute  `json:"routes"`
	Masquerade api.Masquerading `json:"masquerade"`
	HostPorts  int              `json:"hostPorts"`
	Untracked  UntrackedStatus  `json:"untracked"`
	Sysctls    []api.Sysctl     `json:"sysctls"`
	// Services is nil in modes that leave Services to others.
	Services *api.Services `json:"services,omitempty"`
}

// HostRoutingStatus says what carries pods' packets between the node's devices.
type HostRoutingStatus struct {
	// Requested is what the settings ask for.
	Requested settings.Routing `json:"requested"`
	// Effective is what the programs now loaded do.
	Effective settings.Routing `json:"effective"`
	// Reason is why it is not BPF, as "needs BPF masquerade"; more than one are joined by "; ". Empty when
	// it is BPF.
	Reason string `json:"reason,omitempty"`
}

// String is the effective routing, with the reason in brackets when it is not BPF.
func (s HostRoutingStatus) String() string {
	if s.Reason == "" {
		return string(s.Effective)
	}
	return fmt.Sprintf("%s (%s)", s.Effective, s.Reason)
}

// Status reads the data plane back from kernel objects. Parts that cannot be read are reported in the
// error, joined; the rest is filled in all the same.
func (d *Datapath) Status(ctx context.Context) (Status, error) {
	s := Status{HostRouting: d.cfg.hostRouting(), Attach: d.attacher.kind(), LeftOut: d.LeftOut()}
	err := errors.Join(
		d.modeStatus(&s),
		d.programStatus(ctx, &s),
		d.deviceStatus(ctx, &s),
		d.mapStatus(&s),
		d.routeStatus(ctx, &s),
		d.iptablesStatus(ctx, &s),
		d.bpfMasqueradeStatus(&s),
		d.untrackedStatus(ctx, &s),
		d.sysctlStatus(&s),
		d.servicesStatus(&s),
	)
	return s, err
}

// modeStatus says what the loaded programs do, whatever they were asked to.
func (d *Datapath) modeStatus(s *Status) (err error) {
	if s.Mode, err = d.progs.inForce(); err != nil {
		return err
	}
	s.HostRouting.Effective = settings.RoutingLegacy
	if s.Mode == settings.ModeEBPF {
		s.HostRouting.Effective = settings.RoutingBPF
	}
	return nil
}

// bpfMasqueradeStatus finds the NICs whose running programs masquerade.
func (d *Datapath) bpfMasqueradeStatus(s *Status) error {
	on, cidr, err := d.progs.services.masquerades()
	if !on || err != nil {
		return err
	}
	devices, err := d.nicsRunning()
	if len(devices) > 0 {
		s.Masquerade.Enabled, s.Masquerade.Kind = true, string(settings.MasqueradeBPF)
		s.Masquerade.Devices, s.Masquerade.NativeCIDR = devices, cidr
	}
	return err
}

func (d *Datapath) programStatus(ctx context.Context, s *Status) (err error) {
	if s.MonitorAggregation, err = d.progs.aggregation(); err != nil {
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
	host, err := linkByName(d.nl, hostDevice)
	if err != nil {
		return nil, err
	}
	if host != nil {
		hooks = append(hooks, hostHook(host))
	}
	for _, name := range d.devices() {
		nic, err := linkByName(d.nl, name)
		if err != nil {
			return nil, err
		}
		if nic != nil && d.cfg.KubeProxyReplacement {
			in, out := nicHooks(name, nic.Attrs().Index)
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

func (d *Datapath) deviceStatus(ctx context.Context, s *Status) error {
	var errs []error
	for _, name := range append(d.devices(), hostDevice, netDevice) {
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

func (d *Datapath) mapStatus(s *Status) error {
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

func (d *Datapath) routeStatus(ctx context.Context, s *Status) error {
	routes, err := ownRoutes(ctx, d.nl)
	if err != nil {
		return err
	}
	for _, r := range routes {
		dst, _ := toPrefix(r.Dst)
		l, err := d.nl.LinkByIndex(r.LinkIndex)
		if err != nil {
			return fmt.Errorf("look up the device of the route to %s: %w", dst, err)
		}
		s.Routes = append(s.Routes, api.NodeRoute{PodCIDR: dst, Via: toAddr(r.Gw), Device: l.Attrs().Name})
	}
	slices.SortFunc(s.Routes, func(a, b api.NodeRoute) int { return a.PodCIDR.Addr().Compare(b.PodCIDR.Addr()) })
	return nil
}

func (d *Datapath) iptablesStatus(ctx context.Context, s *Status) error {
	t := d.iptables()
	table, err := t.readNAT(ctx)
	if err != nil {
		return err
	}
	s.HostPorts = len(table[hostPortChain])
	if s.Masquerade.Backend, err = t.backend(ctx); err != nil {
		return err
	}
	if !slices.Contains(table[masqueradeJump.from], masqueradeJump.rule) {
		return nil
	}
	for _, rule := range table[masqueradeChain] {
		if !jumpsTo(rule, "MASQUERADE") {
			continue
		}
		s.Masquerade.Enabled, s.Masquerade.Kind = true, string(settings.MasqueradeIPTables)
		if _, rest, ok := strings.Cut(rule, "! -d "); ok {
			cidr, _, _ := strings.Cut(rest, " ")
			s.Masquerade.NativeCIDR, _ = netip.ParsePrefix(cidr)
		}
	}
	return nil
}

func (d *Datapath) sysctlStatus(s *Status) error {
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
