package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// parseListen reads an address and a port to listen at.
func parseListen(at, example string) (netip.AddrPort, error) {
	addr, err := netip.ParseAddrPort(at)
	if err != nil {
		return netip.AddrPort{}, usageError{fmt.Errorf("listen at %q: want an address and a port, as %s", at, example)}
	}
	return addr, nil
}

// listenAt listens at an address and a port.
func listenAt(ctx context.Context, at netip.AddrPort) (net.Listener, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", at.String())
	if err != nil {
		if busy, ok := errors.AsType[*net.OpError](err); ok {
			err = busy.Err
		}
		return nil, fmt.Errorf("listen at %s: %w", at, err)
	}
	return listener, nil
}
