// Package server is the workload of a lab's demo: it answers HTTP and UDP on
// one port with who it is and who asked, as its own socket saw it.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sync/errgroup"

	"wirelab.dev/wirelab/verify/probe"
)

// shutdownGrace is how long open requests may take to end after a signal.
const shutdownGrace = 5 * time.Second

// Server listens on one TCP and one UDP port of the same number.
type Server struct {
	identity probe.Identity
	tcp      net.Listener
	udp      *net.UDPConn
	// udp4 is udp with the addresses of datagrams in sight; nil for IPv6.
	udp4 *ipv4.PacketConn
}

// Listen opens both sockets; port 0 takes one that is free for both. identity
// is what every answer starts from. The caller runs Serve, which closes them.
func Listen(ctx context.Context, addr netip.AddrPort, identity probe.Identity) (*Server, error) {
	// With port 0 the TCP socket gets a port whose UDP twin may be taken.
	attempts := 1
	if addr.Port() == 0 {
		attempts = 20
	}
	var err error
	for range attempts {
		var s *Server
		if s, err = listen(ctx, addr, identity); err == nil {
			return s, nil
		}
	}
	return nil, err
}

func listen(ctx context.Context, addr netip.AddrPort, identity probe.Identity) (*Server, error) {
	var config net.ListenConfig
	tcp, err := config.Listen(ctx, "tcp", addr.String())
	if err != nil {
		return nil, fmt.Errorf("listen for HTTP: %w", err)
	}
	at := netip.AddrPortFrom(addr.Addr(), tcp.Addr().(*net.TCPAddr).AddrPort().Port())
	udp, err := config.ListenPacket(ctx, "udp", at.String())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for UDP: %w", err), tcp.Close())
	}
	s := &Server{identity: identity, tcp: tcp, udp: udp.(*net.UDPConn)}
	if at.Addr().Is4() {
		s.udp4 = ipv4.NewPacketConn(udp)
		if err := s.udp4.SetControlMessage(ipv4.FlagDst, true); err != nil {
			return nil, errors.Join(fmt.Errorf("listen for UDP: %w", err), tcp.Close(), udp.Close())
		}
	}
	return s, nil
}

// Addr is the address both sockets are bound to.
func (s *Server) Addr() netip.AddrPort {
	at := s.tcp.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// Serve answers until ctx ends, then lets open requests end and closes both
// sockets. It returns nil when that is why it ended.
func (s *Server) Serve(ctx context.Context) error {
	handler := &http.Server{Handler: s.routes(), ReadHeaderTimeout: 10 * time.Second}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := handler.Serve(s.tcp); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve HTTP: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		if err := s.serveUDP(); err != nil && ctx.Err() == nil {
			return fmt.Errorf("serve UDP: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		err := handler.Shutdown(grace)
		if errors.Is(err, context.DeadlineExceeded) {
			err = handler.Close()
		}
		return errors.Join(err, s.udp.Close())
	})
	return group.Wait()
}
