package prober

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/cmd/nettool/internal/link"
	"wirelab.dev/wirelab/verify/probe"
)

// capture collects packets until it has Count of them, has seen Until, or ctx
// ends. Running into the timeout is a failure only where an end was named.
func capture(ctx context.Context, spec probe.Capture, ready func(probe.Reply)) (*probe.CaptureResult, error) {
	dev, err := net.InterfaceByName(spec.Interface)
	if err != nil {
		return nil, fmt.Errorf("find device %q: %w", spec.Interface, err)
	}
	socket, err := link.Open(dev.Index, unix.ETH_P_ALL)
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	defer until(ctx, socket)()
	ready(probe.Reply{})

	c := &collection{spec: spec, packets: []probe.Packet{}}
	err = c.collect(ctx, socket)
	lost, lostErr := socket.Lost()
	return &probe.CaptureResult{Packets: c.packets, Lost: lost}, errors.Join(err, lostErr)
}

// collection is what a capture has seen so far.
type collection struct {
	spec    probe.Capture
	packets []probe.Packet
}

func (c *collection) collect(ctx context.Context, socket *link.Socket) error {
	buffer := make([]byte, 1<<16)
	for {
		n, from, err := socket.Read(buffer)
		switch {
		case err != nil && ctx.Err() != nil:
			return c.drain(ctx, socket, buffer)
		case err != nil:
			return failf("read from %s: %w", c.spec.Interface, err)
		case c.add(buffer[:n], from):
			return nil
		}
	}
}

// add tells whether the frame was the last one waited for.
func (c *collection) add(frame []byte, from *unix.SockaddrLinklayer) bool {
	packet := decode(frame, from, c.spec.Tunnel)
	last := c.spec.Until != nil && c.spec.Until.Match(packet)
	if last || c.spec.Picks(packet) {
		c.packets = append(c.packets, packet)
	}
	return last || (c.spec.Count > 0 && len(c.packets) >= c.spec.Count)
}

// drain takes what the kernel had queued when ctx ended: who stops a capture
// after a reply has come wants the packets that went before it.
func (c *collection) drain(ctx context.Context, socket *link.Socket, buffer []byte) error {
	for {
		n, from, err := socket.Queued(buffer)
		if err != nil {
			return failf("read from %s: %w", c.spec.Interface, err)
		}
		if n == 0 {
			break
		}
		if c.add(buffer[:n], from) {
			return nil
		}
	}
	if canceled(ctx) || (c.spec.Count == 0 && c.spec.Until == nil) {
		return nil
	}
	return failf("the capture on %s did not see what it waited for: %w", c.spec.Interface, context.Cause(ctx))
}
