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

// clsactHandle is a filter's among those of its priority, which are ours alone.
const clsactHandle = 1

func (clsact) kind() string { return "clsact" }

// attach replaces our filter in one step when there is one. Otherwise it takes the first free priority: filters of
// different kinds cannot share one.
func (c clsact) attach(h hook, prog *ebpf.Program) error {
	own, taken, err := c.filters(h)
	if err != nil {
		return err
	}
	if id, ok := programID(prog); own != nil && ok && int(id) == own.Id {
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
			Priority:  1,
		},
		Fd:           prog.FD(),
		Name:         h.prog,
		DirectAction: true,
	}
	change := c.nl.FilterAdd // which refuses to take the place of somebody else's
	if own != nil {
		filter.Handle, filter.Priority, change = own.Handle, own.Priority, c.nl.FilterReplace
	} else {
		for taken[filter.Priority] {
			filter.Priority++
		}
	}
	if err := change(filter); err != nil {
		return fmt.Errorf("attach to %s: %w", h.device, err)
	}
	return nil
}

func (c clsact) running(h hook) (ebpf.ProgramID, error) {
	own, _, err := c.filters(h)
	if own == nil || err != nil {
		return 0, err
	}
	return ebpf.ProgramID(own.Id), nil
}

// filters are the one of ours that is on the hook, nil when there is none, and the priorities that are taken.
func (c clsact) filters(h hook) (own *netlink.BpfFilter, taken map[uint16]bool, err error) {
	filters, err := c.list(h, clsactParent(h))
	if errors.Is(err, unix.EINVAL) {
		return nil, nil, nil // the device has no clsact
	}
	if err != nil {
		return nil, nil, err
	}
	taken = map[uint16]bool{}
	for _, f := range filters {
		taken[f.Attrs().Priority] = true
		if bpf, ok := f.(*netlink.BpfFilter); ok && own == nil && h.isOurs(bpf) {
			own = bpf
		}
	}
	return own, taken, nil
}

// list lists the filters in one direction of the hook's device.
func (c clsact) list(h hook, parent uint32) ([]netlink.Filter, error) {
	device := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: h.device, Index: h.index}}
	filters, err := dump(context.Background(), func() ([]netlink.Filter, error) { return c.nl.FilterList(device, parent) })
	if err != nil {
		return nil, fmt.Errorf("list filters of %s: %w", h.device, err)
	}
	return filters, nil
}

// isOurs says whether a filter is the hook's, of this version or an older one.
func (h hook) isOurs(f *netlink.BpfFilter) bool {
	return f.Name != "" && (f.Name == h.prog || f.Name == h.former) && runsProgram(f.Id, f.Name)
}

// runsProgram says whether a program has the name that the kernel knows ours by. A filter's own name may be any.
func runsProgram(id int, name string) bool {
	prog, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
	if err != nil {
		return false
	}
	defer prog.Close()
	info, err := prog.Info()
	short := name[:min(len(name), unix.BPF_OBJ_NAME_LEN-1)] // as the kernel has it; the rest is in its types
	return err == nil && (info.Name == name || info.Name == short)
}

// detach takes our program off a hook of a device that is not ours, and the qdisc when it was the last filter's.
func (c clsact) detach(h hook) error {
	own, _, err := c.filters(h)
	if own == nil || err != nil {
		return err
	}
	if err := c.nl.FilterDel(own); err != nil {
		return fmt.Errorf("detach from %s: %w", h.device, err)
	}
	return c.dropUnused(h)
}

func (c clsact) dropUnused(h hook) error {
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		if filters, err := c.list(h, parent); err != nil || len(filters) > 0 {
			return err
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
