package datapath

import (
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// unlinkTimeout bounds the wait for the kernel's background work, which takes some 20 ms.
const unlinkTimeout = time.Second

// tcx attaches by links (kernel 6.6), pinned under their device's name.
type tcx struct{ pins pins }

func (tcx) kind() string { return "tcx" }

// haveTCX tries to attach to a device that cannot exist: where tcx is known, that is what is wrong.
func haveTCX(prog *ebpf.Program) (bool, error) {
	l, err := link.AttachTCX(link.TCXOptions{Interface: math.MaxInt32, Program: prog, Attach: ebpf.AttachTCXIngress})
	switch {
	case errors.Is(err, unix.ENODEV):
		return true, nil
	case errors.Is(err, ebpf.ErrNotSupported):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("probe the kernel for tcx: %w", err)
	}
	return false, errors.Join(errors.New("probe the kernel for tcx: a device that cannot exist was found"), l.Close())
}

// attach puts prog on the hook, in the place of an older version of itself, with no packet passing in
// between. The link is pinned, so traffic keeps flowing when the agent restarts.
func (t tcx) attach(h hook, prog *ebpf.Program) error {
	done, err := t.update(h, prog)
	if done || err != nil {
		return err
	}
	l, err := t.create(h, prog)
	if err != nil {
		return fmt.Errorf("attach to %s: %w", h.device, err)
	}
	// Closing a link that is pinned leaves it in place; closing one that is not detaches the program.
	defer l.Close()
	if err := l.Pin(t.pins.link(h.pinName())); err != nil {
		return fmt.Errorf("pin link of %s: %w", h.device, err)
	}
	return nil
}

// create waits for a link that was unpinned a moment ago: the kernel takes it down in the background,
// and until then the same program is refused.
func (tcx) create(h hook, prog *ebpf.Program) (link.Link, error) {
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
func (t tcx) update(h hook, prog *ebpf.Program) (done bool, err error) {
	l, running, err := t.open(h)
	if l == nil || err != nil {
		return false, err
	}
	defer l.Close()
	if running == 0 {
		return false, t.forget(h.pinName())
	}
	if id, ok := programID(prog); ok && id == running {
		return true, nil
	}
	if err := l.Update(prog); err != nil {
		return false, fmt.Errorf("replace program on %s: %w", h.device, err)
	}
	return true, nil
}

func (t tcx) running(h hook) (ebpf.ProgramID, error) {
	l, id, err := t.open(h)
	if l != nil {
		l.Close()
	}
	return id, err
}

// open opens the device's pinned link, nil when there is none, and says which program it runs; 0 when
// the link is not on the hook any more.
func (t tcx) open(h hook) (link.Link, ebpf.ProgramID, error) {
	l, err := link.LoadPinnedLink(t.pins.link(h.pinName()), nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open pinned link of %s: %w", h.device, err)
	}
	info, err := l.Info()
	if err != nil {
		l.Close()
		return nil, 0, fmt.Errorf("read link of %s: %w", h.device, err)
	}
	on := info.TCX()
	if on == nil || int(on.Ifindex) != h.index || ebpf.AttachType(on.AttachType) != h.attach {
		return l, 0, nil
	}
	return l, info.Program, nil
}

func (t tcx) forget(device string) error { return t.pins.unpinLink(device) }

func (t tcx) remembered() ([]string, error) { return t.pins.pinnedLinks() }
