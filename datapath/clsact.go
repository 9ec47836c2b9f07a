package datapath

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// clsact attaches by filters, for kernels before 6.6. They belong to the device and need no pin.
type clsact struct{ nl *netlink.Handle }

const (
	clsactPriority = 1
	clsactHandle   = 1
)

func (clsact) kind() string { return "clsact" }

// attach replaces the filter in one step when there is one.
func (c clsact) attach(h hook, prog *ebpf.Program) error {
	running, err := c.running(h)
	if err != nil {
		return err
	}
	if id, ok := programID(prog); ok && id == running {
		return nil
	}
	if err := c.nl.QdiscAdd(clsactQdisc(h.index)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add clsact to %s: %w", h.device, err)
	}
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: h.index,
			Parent:    clsactParent(h),
			Handle:    clsactHandle,
			Protocol:  unix.ETH_P_ALL,
			Priority:  clsactPriority,
		},
		Fd:           prog.FD(),
		Name:         h.prog,
		DirectAction: true,
	}
	if err := c.nl.FilterReplace(filter); err != nil {
		return fmt.Errorf("attach to %s: %w", h.device, err)
	}
	return nil
}

func (c clsact) running(h hook) (ebpf.ProgramID, error) {
	device := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: h.device, Index: h.index}}
	filters, err := dump(context.Background(), func() ([]netlink.Filter, error) { return c.nl.FilterList(device, clsactParent(h)) })
	if errors.Is(err, unix.EINVAL) {
		return 0, nil // the device has no clsact
	}
	if err != nil {
		return 0, fmt.Errorf("list filters of %s: %w", h.device, err)
	}
	for _, f := range filters {
		if own, ok := f.(*netlink.BpfFilter); ok && own.Name == h.prog && own.Priority == clsactPriority {
			return ebpf.ProgramID(own.Id), nil
		}
	}
	return 0, nil
}

// detach takes the qdisc along when it was the last filter's.
func (c clsact) detach(h hook) error {
	if id, err := c.running(h); id == 0 || err != nil {
		return err
	}
	filter := &netlink.BpfFilter{FilterAttrs: netlink.FilterAttrs{
		LinkIndex: h.index,
		Parent:    clsactParent(h),
		Handle:    clsactHandle,
		Protocol:  unix.ETH_P_ALL,
		Priority:  clsactPriority,
	}}
	if err := c.nl.FilterDel(filter); err != nil {
		return fmt.Errorf("detach from %s: %w", h.device, err)
	}
	return c.dropUnused(h)
}

func (c clsact) dropUnused(h hook) error {
	device := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: h.device, Index: h.index}}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		filters, err := dump(context.Background(), func() ([]netlink.Filter, error) { return c.nl.FilterList(device, parent) })
		if err != nil {
			return fmt.Errorf("list filters of %s: %w", h.device, err)
		}
		if len(filters) > 0 {
			return nil
		}
	}
	if err := c.nl.QdiscDel(clsactQdisc(h.index)); err != nil {
		return fmt.Errorf("remove clsact from %s: %w", h.device, err)
	}
	return nil
}

func clsactQdisc(index int) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index,
		Handle:    netlink.MakeHandle(0xffff, 0),
		Parent:    netlink.HANDLE_CLSACT,
	}}
}

func clsactParent(h hook) uint32 {
	if h.attach == ebpf.AttachTCXEgress {
		return netlink.HANDLE_MIN_EGRESS
	}
	return netlink.HANDLE_MIN_INGRESS
}

// forget has nothing to do: devices of ours take their filters along.
func (clsact) forget(string) error { return nil }

func (clsact) remembered() ([]string, error) { return nil, nil }
