package datapath

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	stdmaps "maps"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
)

// ServicesStatus is what the kernel has of Services, in short.
type ServicesStatus struct {
	// Sockets are the hooks at the node's cgroups that run the programs now loaded, sorted: "connect4", ….
	Sockets []string `json:"sockets"`
	// Cgroup is the kernel's number of the cgroup they are at; 0 when there is none.
	Cgroup uint64 `json:"cgroup"`
	// Devices are the NICs at which NodePorts and outer addresses are translated, sorted.
	Devices []string `json:"devices"`
	// NATPorts is the range of ports for flows to backends on other nodes.
	NATPorts string `json:"natPorts"`
	// NodePorts are the lowest and the highest port of NodePort frontends, as "30080-32000" or "32000"; empty when
	// there is none.
	NodePorts string `json:"nodePorts"`
	// Services counts ports of Services, without the host ports of pods; Affinity those of them whose clients stay with
	// their backend.
	Services int `json:"services"`
	Affinity int `json:"affinity"`
	// Frontends counts addresses and ports by kind, Backends the places that hold one.
	Frontends map[FrontendKind]int `json:"frontends"`
	Backends  int                  `json:"backends"`
}

// ServiceStatus is one frontend as the maps have it.
type ServiceStatus struct {
	// ID is the number of the Service's port, the same for all of its frontends and after a restart.
	ID uint32 `json:"id"`
	// Service is "<namespace>/<name>:<port>/<protocol>"; empty when this process has not named it yet.
	Service  string         `json:"service"`
	Kind     FrontendKind   `json:"kind"`
	Frontend netip.AddrPort `json:"frontend"`
	Proto    string         `json:"protocol"`
	// From is "inside" for what pods and the node's processes meet, "outside" for what the NICs do.
	From string `json:"from"`
	// Local says that only backends on this node are used.
	Local        bool            `json:"local"`
	Affinity     time.Duration   `json:"affinity"`
	SourceRanges []netip.Prefix  `json:"sourceRanges"`
	Backends     []BackendStatus `json:"backends"`
}

// BackendStatus is one backend of a list, in the list's order.
type BackendStatus struct {
	ID     uint32         `json:"id"`
	Addr   netip.AddrPort `json:"addr"`
	OnNode bool           `json:"onNode"`
}

// List reads the frontends back from the maps, sorted by address, port, protocol and From.
func (v *Services) List(_ context.Context) ([]ServiceStatus, error) {
	if err := v.check(); err != nil {
		return nil, err
	}
	names := v.names()
	t, err := v.d.maps.services.read(v.d.maps.services.everything())
	if err != nil {
		return nil, err
	}
	stdmaps.Copy(names, v.names()) // what has come meanwhile; what has gone is still in names
	list := make([]ServiceStatus, 0, len(t.frontends))
	for key, s := range t.frontends {
		list = append(list, t.describe(key, s, names[s.Id]))
	}
	slices.SortFunc(list, func(a, b ServiceStatus) int {
		return cmp.Or(a.Frontend.Compare(b.Frontend), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.From, b.From))
	})
	return list, nil
}

// names are the services' names by id, as far as this process has given them. They are the caller's.
func (v *Services) names() map[uint32]string {
	v.d.services.mu.Lock()
	defer v.d.services.mu.Unlock()
	names := make(map[uint32]string, len(v.d.services.names))
	stdmaps.Copy(names, v.d.services.names)
	return names
}

func (t *tables) describe(key bpf.ServiceKey, s bpf.Service, name string) ServiceStatus {
	st := ServiceStatus{
		ID:       s.Id,
		Service:  name,
		Kind:     kindOf(s.Kind),
		Frontend: addrPort(key.Addr, key.Port),
		Proto:    protocolName(key.Proto),
		From:     "inside",
		Local:    s.Flags&bpf.PodLabServiceFlagLAB_LOCAL_ONLY != 0,
		Affinity: time.Duration(s.Affinity) * time.Second,
	}
	if key.Scope == bpf.PodLabScopeLAB_OUTSIDE {
		st.From = "outside"
	}
	if s.Flags&bpf.PodLabServiceFlagLAB_SOURCE_RANGES != 0 {
		st.SourceRanges = t.sourceRanges(s.Id)
	}
	if s.Count == 0 {
		return st
	}
	for _, id := range t.lists[s.First] {
		b := t.backends[id]
		onNode := b.Flags&bpf.PodLabBackendFlagLAB_ON_NODE != 0
		st.Backends = append(st.Backends, BackendStatus{ID: id, Addr: addrPort(b.Addr, b.Port), OnNode: onNode})
	}
	return st
}

func (t *tables) sourceRanges(service uint32) (ranges []netip.Prefix) {
	for key := range t.sources {
		if key.Service == service {
			ranges = append(ranges, netip.PrefixFrom(fromIP(key.Addr), int(key.Prefix)-sourcePrefix))
		}
	}
	slices.SortFunc(ranges, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return ranges
}

func kindOf(code bpf.FrontendKind) FrontendKind {
	for _, k := range frontendKinds {
		if k.code == code {
			return k.kind
		}
	}
	return ""
}

func protocolName(number uint8) string {
	if number == unix.IPPROTO_ICMP {
		return "icmp"
	}
	for name, n := range protocols {
		if n == number {
			return name
		}
	}
	return fmt.Sprint(number)
}

// servicesStatus is nil in modes that leave Services to others.
func (d *Datapath) servicesStatus(s *Status) error {
	if d.maps.services == nil {
		return nil
	}
	t, err := d.maps.services.read(d.maps.services.everything())
	if err != nil {
		return err
	}
	st := &ServicesStatus{Backends: len(t.backends), NATPorts: d.cfg.nat.String()}
	st.count(t)
	s.Services = st
	var errs []error
	for _, h := range d.progs.services.sockets() {
		cgroup, err := d.pins.runningOnCgroup(h)
		errs = append(errs, err)
		if cgroup != 0 {
			st.Sockets = append(st.Sockets, h.pin[len(socketPinPrefix):])
			st.Cgroup = cgroup
		}
	}
	slices.Sort(st.Sockets)
	st.Devices, err = d.nicsRunning()
	return errors.Join(append(errs, err)...)
}

// nicsRunning are the NICs that run the programs now loaded, sorted.
func (d *Datapath) nicsRunning() (devices []string, err error) {
	var errs []error
	for _, name := range d.devices() {
		running, err := d.runningOnNIC(name)
		errs = append(errs, err)
		if running {
			devices = append(devices, name)
		}
	}
	return devices, errors.Join(errs...)
}

// count counts what the tables hold. Inside and outside are one frontend.
func (st *ServicesStatus) count(t *tables) {
	st.Frontends = map[FrontendKind]int{}
	seen := map[bpf.ServiceKey]bool{}
	services := map[uint32]bool{}
	var low, high uint16
	for key, s := range t.frontends {
		kind := kindOf(s.Kind)
		if !services[s.Id] && kind != HostPortFrontend {
			services[s.Id] = true
			st.Services++
			if s.Affinity > 0 {
				st.Affinity++
			}
		}
		if key = withScope(key, 0); seen[key] {
			continue
		}
		seen[key] = true
		st.Frontends[kind]++
		if port := fromNetwork(key.Port); kind == NodePort {
			if low == 0 || port < low {
				low = port
			}
			high = max(high, port)
		}
	}
	switch {
	case low != high:
		st.NodePorts = fmt.Sprintf("%d-%d", low, high)
	case high != 0:
		st.NodePorts = fmt.Sprint(high)
	}
}

// runningOnCgroup is the number of the cgroup at which the program runs; 0 when it runs at none.
func (p pins) runningOnCgroup(h socketHook) (uint64, error) {
	l, err := link.LoadPinnedLink(p.link(h.pin), nil)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("open pinned link %s: %w", h.pin, err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return 0, fmt.Errorf("read link %s: %w", h.pin, err)
	}
	id, ok := programID(h.prog)
	if !ok || info.Program != id || info.Cgroup() == nil {
		return 0, nil
	}
	return info.Cgroup().CgroupId, nil // 0 when its cgroup is gone
}

// runningOnNIC says whether both programs are on the device and are those now loaded.
func (d *Datapath) runningOnNIC(name string) (bool, error) {
	l, err := linkByName(d.nl, name)
	if l == nil || err != nil {
		return false, err
	}
	in, out := nicHooks(name, l.Attrs().Index)
	inID, errIn := d.attacher.running(in)
	outID, errOut := d.attacher.running(out)
	wantIn, okIn := programID(d.progs.services.fromNetwork)
	wantOut, okOut := programID(d.progs.services.toNetwork)
	return okIn && okOut && inID == wantIn && outID == wantOut, errors.Join(errIn, errOut)
}
