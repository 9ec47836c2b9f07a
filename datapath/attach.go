package datapath

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// unlinkTimeout bounds the wait for the kernel's background work, which takes some 20 ms.
const unlinkTimeout = time.Second

// hook is a place for a program: a device and a direction.
type hook struct {
	device string
	index  int
	attach ebpf.AttachType
}

// attach puts prog on the hook, in the place of an older version of itself, with no packet passing in
// between. The link is pinned under the device's name, so traffic keeps flowing when the agent restarts.
// The error wraps [ErrNoTCX] on kernels before 6.6.
func (p pins) attach(h hook, prog *ebpf.Program) error {
	done, err := p.update(h, prog)
	if done || err != nil {
		return err
	}
	l, err := attachTCX(h, prog)
	if errors.Is(err, ebpf.ErrNotSupported) {
		return fmt.Errorf("attach to %s: %w: it needs kernel 6.6 or newer, this is %s", h.device, ErrNoTCX, kernelRelease())
	}
	if err != nil {
		return fmt.Errorf("attach to %s: %w", h.device, err)
	}
	// Closing a link that is pinned leaves it in place; closing one that is not detaches the program.
	defer l.Close()
	if err := l.Pin(p.link(h.device)); err != nil {
		return fmt.Errorf("pin link of %s: %w", h.device, err)
	}
	return nil
}

// attachTCX waits for a link that was unpinned a moment ago: the kernel takes it down in the background,
// and until then the same program is refused.
func attachTCX(h hook, prog *ebpf.Program) (link.Link, error) {
	deadline := time.Now().Add(unlinkTimeout)
	for {
		l, err := link.AttachTCX(link.TCXOptions{Interface: h.index, Program: prog, Attach: h.attach})
		if !errors.Is(err, unix.EEXIST) || time.Now().After(deadline) {
			return l, err
		}
		time.Sleep(time.Millisecond)
	}
}

// update makes a pinned link run prog. A link that leads nowhere, or elsewhere, is unpinned.
func (p pins) update(h hook, prog *ebpf.Program) (done bool, err error) {
	l, err := link.LoadPinnedLink(p.link(h.device), nil)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open pinned link of %s: %w", h.device, err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return false, fmt.Errorf("read link of %s: %w", h.device, err)
	}
	tcx := info.TCX()
	if tcx == nil || int(tcx.Ifindex) != h.index || ebpf.AttachType(tcx.AttachType) != h.attach {
		return false, p.unpinLink(h.device)
	}
	if id, ok := programID(prog); ok && id == info.Program {
		return true, nil
	}
	if err := l.Update(prog); err != nil {
		return false, fmt.Errorf("replace program on %s: %w", h.device, err)
	}
	return true, nil
}

// attached is the program that the device's pinned link runs on it; 0 when there is none.
func (p pins) attached(h hook) (ebpf.ProgramID, error) {
	l, err := link.LoadPinnedLink(p.link(h.device), nil)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("open pinned link of %s: %w", h.device, err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return 0, fmt.Errorf("read link of %s: %w", h.device, err)
	}
	if tcx := info.TCX(); tcx == nil || int(tcx.Ifindex) != h.index || ebpf.AttachType(tcx.AttachType) != h.attach {
		return 0, nil
	}
	return info.Program, nil
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

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
