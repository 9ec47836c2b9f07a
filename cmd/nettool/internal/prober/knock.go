package prober

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/verify/probe"
)

// knock opens a TCP connection and closes it, or sends a datagram and waits for one.
func knock(ctx context.Context, spec probe.Knock) (*probe.KnockResult, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{Port: int(spec.From)}}
	if spec.Protocol == "udp" {
		dialer.LocalAddr = &net.UDPAddr{Port: int(spec.From)}
	}
	conn, err := dialer.DialContext(ctx, spec.Protocol+"4", spec.Address.String())
	switch {
	case spec.From != 0 && (errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL)): // by bind or connect, before anything is sent
		return nil, fmt.Errorf("%w: %d", probe.ErrPortTaken, spec.From)
	case err != nil:
		return nil, notLetIn(ctx, err)
	}
	defer conn.Close()
	result := &probe.KnockResult{Local: addrPort(conn.LocalAddr())}
	if spec.Protocol == "tcp" {
		return result, nil
	}
	defer until(ctx, conn)()
	if _, err := io.WriteString(conn, spec.Marker); err != nil {
		return result, notLetIn(ctx, err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return result, notLetIn(ctx, err)
	}
	return result, nil
}

// notLetIn is why nobody answered, without who asked whom, which the asker knows.
func notLetIn(ctx context.Context, err error) error {
	if late := (net.Error)(nil); errors.As(err, &late) && late.Timeout() {
		<-ctx.Done() // which is why
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err
	}
	return failf("%w", explainRead(ctx, err))
}
