package prober

import (
	"context"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/verify/probe"
)

// capture collects packets until it has Count of them, has seen Until, or ctx
// ends. Running into the timeout is a failure only where an end was named.
func capture(ctx context.Context, spec probe.Capture, ready func(probe.Reply)) (*probe.CaptureResult, error) {
	index := 0
	if spec.Interface != "any" {
		dev, _, err := device(spec.Interface)
		if err != nil {
			return nil, err
		}
		index = dev.Index
	}
	socket, err := openLink(index, unix.ETH_P_ALL)
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	defer until(ctx, socket)()
	ready(probe.Reply{})

	result, err := collect(ctx, socket, spec)
	if err != nil {
		return result, err
	}
	result.Lost, err = socket.lost()
	return result, err
}

func collect(ctx context.Context, socket *linkSocket, spec probe.Capture) (*probe.CaptureResult, error) {
	result := &probe.CaptureResult{Packets: []probe.Packet{}}
	names := deviceNames{}
	buffer := make([]byte, 1<<16)
	for {
		n, from, err := socket.read(buffer)
		switch {
		case err != nil && canceled(ctx), err != nil && ctx.Err() != nil && spec.Count == 0 && spec.Until == nil:
			return result, nil
		case err != nil:
			return result, failf("the capture on %s did not see what it waited for: %w", spec.Interface, explainRead(ctx, err))
		}
		packet := decode(buffer[:n], from)
		packet.Interface = names.of(from.Ifindex)
		last := spec.Until != nil && spec.Until.Match(packet)
		if last || spec.Filter.Match(packet) {
			result.Packets = append(result.Packets, packet)
		}
		if last || (spec.Count > 0 && len(result.Packets) >= spec.Count) {
			return result, nil
		}
	}
}

// deviceNames remembers names by index.
type deviceNames map[int]string

func (d deviceNames) of(index int) string {
	name, ok := d[index]
	if !ok {
		name = fmt.Sprintf("if%d", index)
		if dev, err := net.InterfaceByIndex(index); err == nil {
			name = dev.Name
		}
		d[index] = name
	}
	return name
}
