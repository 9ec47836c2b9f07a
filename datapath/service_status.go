package datapath

import (
	"context"
	"errors"
	"fmt"
	stdmaps "maps"
	"os"
	"slices"

	"github.com/cilium/ebpf/link"

	"wirelab.dev/wirelab/internal/api"
)

// List reads the frontends back from the maps, sorted by address, port, protocol and From.
func (v *Services) List(_ context.Context) ([]api.Frontend, error) {
	if err := v.check(); err != nil {
		return nil, err
	}
	names := v.names()
	t, err := v.d.maps.services.balanced().Read()
	if err != nil {
		return nil, err
	}
	stdmaps.Copy(names, v.names()) // what has come meanwhile; what has gone is still in names
	return t.List(names), nil
}

// names are the services' names by id, as far as this process has given them. They are the caller's.
func (v *Services) names() map[uint32]string {
	v.d.services.mu.Lock()
	defer v.d.services.mu.Unlock()
	return v.d.services.balancer.Names()
}

// servicesStatus is nil in modes that leave Services to others.
func (d *Datapath) servicesStatus(s *api.Datapath) error {
	if d.maps.services == nil {
		return nil
	}
	t, err := d.maps.services.balanced().Read()
	if err != nil {
		return err
	}
	st := t.Count()
	st.NATPorts = d.cfg.nat.String()
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
