package datapath

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/bpf"
	"wirelab.dev/wirelab/internal/api"
)

// CheckEndpoint says what is wrong with an endpoint, everything at once; nil when it is as AddEndpoint
// left it. The error wraps [ErrUnknownEndpoint] when there is no such endpoint.
func (d *Datapath) CheckEndpoint(ctx context.Context, spec EndpointSpec) error {
	if err := spec.validate(d.cfg); err != nil {
		return fmt.Errorf("check endpoint: %w", err)
	}
	pod, err := netlink.NewHandleAt(netns.NsHandle(spec.NetNS), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("enter the pod's network namespace: %w", err)
	}
	defer pod.Close()
	had, err := d.find(spec)
	if err != nil {
		return err
	}
	if _, err := d.check(ctx, spec, had, pod); err != nil {
		return fmt.Errorf("check endpoint %s of %s: %w", spec.Addr, spec.alias(), err)
	}
	return nil
}

// present is what there is on the node of an endpoint that is asked for.
type present struct {
	veth    netlink.Link // by the endpoint's name; nil when there is none
	entry   bpf.Endpoint // at the endpoint's address
	entered bool         // there is such an entry,
	own     bool         // and it is the endpoint's own
}

func (p present) nothing() bool { return p.veth == nil && !p.own }

func (d *Datapath) find(spec EndpointSpec) (p present, err error) {
	if p.veth, err = linkByName(d.nl, spec.HostIf); err != nil {
		return p, err
	}
	err = d.maps.endpoints.Lookup(bpf.IPOf(spec.Addr), &p.entry)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("look up endpoint %s: %w", spec.Addr, err)
	}
	number, _ := vethNumber(spec.HostIf)
	p.entered, p.own = true, p.entry.Veth == number
	return p, nil
}

// check compares what there is of an endpoint with what AddEndpoint would have made.
func (d *Datapath) check(ctx context.Context, spec EndpointSpec, had present, pod *netlink.Handle) (api.Endpoint, error) {
	switch {
	case had.nothing():
		return api.Endpoint{}, ErrUnknownEndpoint
	case had.veth == nil:
		return api.Endpoint{}, fmt.Errorf("device %s is gone", spec.HostIf)
	case !had.own:
		return api.Endpoint{}, fmt.Errorf("device %s is there, but the endpoint map does not have %s as its address", spec.HostIf, spec.Addr)
	}
	ep, err := d.endpoint(spec.Addr, had.entry, had.veth)
	if err != nil {
		return api.Endpoint{}, err
	}
	return ep, errors.Join(checkHost(ep, had.veth, d.cfg), checkPod(ctx, spec, ep, pod, d.cfg))
}

func checkHost(ep api.Endpoint, veth netlink.Link, cfg Config) error {
	var errs []error
	if ep.HostIndex == 0 {
		errs = append(errs, fmt.Errorf("the endpoint map has another device than %s", ep.HostIf))
	}
	if ep.ID != cfg.endpointID(ep.Addr) {
		errs = append(errs, fmt.Errorf("the endpoint map has id %d", ep.ID))
	}
	if ep.HostMAC != toMAC(veth.Attrs().HardwareAddr) {
		errs = append(errs, fmt.Errorf("the endpoint map has %s for %s, whose address is %s", ep.HostMAC, ep.HostIf, veth.Attrs().HardwareAddr))
	}
	if !ep.Attached {
		errs = append(errs, fmt.Errorf("the program is not attached to %s", ep.HostIf))
	}
	if veth.Attrs().RawFlags&unix.IFF_UP == 0 {
		errs = append(errs, fmt.Errorf("device %s is down", ep.HostIf))
	}
	return errors.Join(errs...)
}

func checkPod(ctx context.Context, spec EndpointSpec, ep api.Endpoint, pod *netlink.Handle, cfg Config) error {
	eth, err := linkByName(pod, spec.IfName)
	if err != nil {
		return err
	}
	if eth == nil {
		return fmt.Errorf("the pod has no interface %s", spec.IfName)
	}
	var errs []error
	if eth.Attrs().RawFlags&unix.IFF_UP == 0 {
		errs = append(errs, fmt.Errorf("the pod's %s is down", spec.IfName))
	}
	if ep.PodMAC != toMAC(eth.Attrs().HardwareAddr) {
		errs = append(errs, fmt.Errorf("the endpoint map has %s for the pod's %s, whose address is %s", ep.PodMAC, spec.IfName, eth.Attrs().HardwareAddr))
	}
	if eth.Attrs().MTU != ep.MTU {
		errs = append(errs, fmt.Errorf("MTU of the pod's %s is %d, the host side's %d", spec.IfName, eth.Attrs().MTU, ep.MTU))
	}
	addrs, err := dump(ctx, func() ([]netlink.Addr, error) { return pod.AddrList(eth, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("list the pod's addresses: %w", err)
	}
	if !slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return toAddr(a.IP) == spec.Addr }) {
		errs = append(errs, fmt.Errorf("the pod's %s does not have address %s", spec.IfName, spec.Addr))
	}
	return errors.Join(append(errs, checkPodRoutes(ctx, eth, pod, cfg))...)
}

func checkPodRoutes(ctx context.Context, eth netlink.Link, pod *netlink.Handle, cfg Config) error {
	have, err := dump(ctx, func() ([]netlink.Route, error) { return pod.RouteList(eth, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("list the pod's routes: %w", err)
	}
	var errs []error
	for _, want := range podRoutes(eth.Attrs().Index, cfg, eth.Attrs().MTU) {
		there := slices.ContainsFunc(have, func(r netlink.Route) bool {
			return routeName(r) == routeName(want) && toAddr(r.Gw) == toAddr(want.Gw)
		})
		if !there {
			errs = append(errs, fmt.Errorf("the pod lacks its route to %s", routeName(want)))
		}
	}
	return errors.Join(errs...)
}
