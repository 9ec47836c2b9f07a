package datapath

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"wirelab.dev/wirelab/bpf"
)

// hook is a place for a program: a device and a direction.
type hook struct {
	device string
	index  int
	attach ebpf.AttachType // AttachTCXIngress or AttachTCXEgress, whatever attaches
	prog   string          // the name of the program that belongs there
	former string          // its name in older versions, whose filter is ours, too
	pin    string          // of the link, where a device has more than one; else it is the device's name
}

func (h hook) direction() string {
	if h.attach == ebpf.AttachTCXEgress {
		return "egress"
	}
	return "ingress"
}

func (h hook) pinName() string {
	if h.pin != "" {
		return h.pin
	}
	return h.device
}

// podHook is the place of the pods' program: what a pod sends arrives at the host-side veth's ingress.
func podHook(veth netlink.Link) hook {
	return hook{device: veth.Attrs().Name, index: veth.Attrs().Index, attach: ebpf.AttachTCXIngress, prog: bpf.PodProgLabFromPod, former: "lab_pod_egress"}
}

// hostHook is the place of the program for packets from the node's stack to its pods: they leave by lab_host.
func hostHook(host netlink.Link) hook {
	return hook{device: host.Attrs().Name, index: host.Attrs().Index, attach: ebpf.AttachTCXEgress, prog: bpf.HostProgLabToPod}
}

// attacher puts programs on hooks in one of the ways that kernels have.
type attacher interface {
	// kind is what status calls it.
	kind() string
	// attach puts prog on the hook, in the place of an older version of itself, with no packet passing
	// in between. It stays when this process ends.
	attach(h hook, prog *ebpf.Program) error
	// running is the program of ours that is on the hook; 0 when there is none.
	running(h hook) (ebpf.ProgramID, error)
	// forget removes what remains of a device that is gone, or detaches from one that is there.
	forget(device string) error
	// remembered lists the devices that forget has to be called for.
	remembered() ([]string, error)
}

// chooseAttacher takes tcx where the kernel has it.
func (d *Datapath) chooseAttacher() error {
	have, err := haveTCX(d.progs.fromPod)
	if err != nil {
		return err
	}
	if have && !d.cfg.forceClsact {
		d.attacher = tcx{d.pins}
		return nil
	}
	d.attacher = clsact{d.nl}
	return nil
}

func (p pins) unpinLink(device string) error {
	if err := os.Remove(p.link(device)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("unpin link of %s: %w", device, err)
	}
	return nil
}

// pinnedLinks lists the devices that have a pinned link, whether or not they exist.
func (p pins) pinnedLinks() ([]string, error) {
	files, err := os.ReadDir(p.links())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list pinned links: %w", err)
	}
	names := make([]string, 0, len(files))
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names, nil
}

func programID(prog *ebpf.Program) (ebpf.ProgramID, bool) {
	info, err := prog.Info()
	if err != nil {
		return 0, false
	}
	return info.ID()
}
