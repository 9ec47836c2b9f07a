package tap

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/cmd/nettool/internal/link"
	"wirelab.dev/wirelab/cmd/nettool/internal/netns"
	"wirelab.dev/wirelab/verify/probe"
)

// behind is what a point may fall behind by, in bytes, of which a packet has some 800 more than its own. The kernel takes
// them as they are needed.
const behind = 64 << 20

// point is a device that is listened at.
type point struct {
	device  probe.TapDevice
	index   int          // of the device that a frame is sent at to cross the point; in nettool's namespace
	socket  *link.Socket // nil: no more
	loops   bool         // it is lo's kind: what goes out comes in
	upTo    time.Time    // all before that is told
	dropped int
}

// open listens at a point, of the calling thread's network namespace unless it names another.
func open(ctx context.Context, at probe.TapPoint, filter string) (p *point, err error) {
	here := func(f func() error) error { return f() }
	there := here
	if at.Container != "" {
		ns, err := netns.Of(at.Container)
		if err != nil {
			return nil, of(at, err)
		}
		defer ns.Close()
		there = func(f func() error) error { return netns.Within(ns, f) }
	}
	var d device
	err = there(func() (err error) {
		if at.Address.IsValid() {
			d, err = addressed(at.Address)
		} else {
			d, err = named(at.Device)
		}
		return err
	})
	if err != nil {
		return nil, of(at, err)
	}
	index := d.index
	if back, failed := indexed(d.peer); at.Peer || at.Container != "" || failed == nil && back.peer == d.index {
		index = d.peer // what goes out there comes in here, whatever programs do with what goes out here
	}
	if at.Peer {
		there = here
		if d, err = indexed(d.peer); err != nil {
			return nil, of(at, fmt.Errorf("find the other end of %s: %w", at.Device, err))
		}
	}
	err = there(func() (err error) {
		p, err = listen(ctx, d, filter)
		return err
	})
	if err == nil {
		p.index = index
	}
	return p, err
}

// of names the pod of a point whose device is not to be found.
func of(at probe.TapPoint, err error) error {
	if at.Pod == "" {
		return err
	}
	return fmt.Errorf("pod %s: %w", at.Pod, err)
}

// listen opens a socket at a device of the calling thread's network namespace.
func listen(ctx context.Context, d device, filter string) (*point, error) {
	p := &point{device: probe.TapDevice{Name: d.name}, loops: d.kind == unix.ARPHRD_LOOPBACK, upTo: time.Now()}
	switch d.kind {
	case unix.ARPHRD_ETHER:
		p.device.MAC = d.mac.String()
	case unix.ARPHRD_LOOPBACK:
	case unix.ARPHRD_NONE, unix.ARPHRD_TUNNEL:
		p.device.Raw = true
	default:
		return nil, fmt.Errorf("device %s has neither frames of Ethernet nor bare packets, but those of type %d", d.name, d.kind)
	}
	program, err := compile(ctx, filter, d.name)
	if err != nil {
		return nil, err
	}
	if p.socket, err = link.Open(d.index, unix.ETH_P_ALL, program...); err != nil {
		return nil, fmt.Errorf("listen at %s: %w", d.name, err)
	}
	if err := errors.Join(p.socket.Stamp(), p.socket.Buffer(behind)); err != nil {
		return nil, errors.Join(fmt.Errorf("listen at %s: %w", d.name, err), p.socket.Close())
	}
	return p, nil
}
