package datapath

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"wirelab.dev/wirelab/internal/api"
)

// DeleteEndpoint removes an endpoint's map entry, veth pair and pinned link, and returns the addresses
// that became free, sorted. It works when the pod's namespace or the veth is gone already, and returns
// nil when there is nothing to remove.
func (d *Datapath) DeleteEndpoint(_ context.Context, hostIf string) ([]netip.Addr, error) {
	freed, err := d.removeEndpoint(hostIf)
	slices.SortFunc(freed, netip.Addr.Compare)
	if err != nil {
		return freed, fmt.Errorf("delete endpoint %s: %w", hostIf, err)
	}
	if len(freed) > 0 {
		d.log.Info("endpoint is deleted", "iface", hostIf, "addr", freed)
	}
	return freed, nil
}

// removeEndpoint removes whatever there is of an endpoint, and returns the addresses that became free. The device goes
// before its link: detaching a program from a device that lives waits for the kernel, a device that goes takes the
// program along.
func (d *Datapath) removeEndpoint(hostIf string) ([]netip.Addr, error) {
	number, ok := vethNumber(hostIf)
	if !ok {
		return nil, fmt.Errorf("%q is not the name of a host-side veth", hostIf)
	}
	freed, err := d.maps.removeVeth(number)
	return freed, errors.Join(err, deleteLink(d.nl, hostIf), d.attacher.forget(hostIf))
}

// KeepEndpoints removes every endpoint whose host-side veth is not in keep (CNI GC) and returns the
// removed ones, sorted by address.
func (d *Datapath) KeepEndpoints(ctx context.Context, keep []string) (removed []api.Endpoint, err error) {
	eps, err := d.Endpoints(ctx)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, ep := range eps {
		if slices.Contains(keep, ep.HostIf) {
			continue
		}
		if _, err := d.removeEndpoint(ep.HostIf); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, ep)
	}
	return removed, errors.Join(errs...)
}
