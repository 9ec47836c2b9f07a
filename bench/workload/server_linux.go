package workload

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// What a client says first: an operation, or that the session is over and the report is due.
const (
	opByte     = 'o'
	reportByte = 'r'
)

// Server serves sessions of one workload, one after another.
type Server struct {
	kind  Kind
	place Place
	fd    int
	addr  netip.AddrPort // where it listens
}

// Listen opens a server's socket in place. Port 0 picks one. The caller closes the server.
func Listen(place Place, kind Kind, at netip.AddrPort) (*Server, error) {
	s := &Server{kind: kind, place: place, fd: -1}
	if err := place.Do(func() error { return s.open(at) }); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s for %s: %w", at, kind, err), s.Close())
	}
	return s, nil
}

func (s *Server) open(at netip.AddrPort) (err error) {
	if s.fd, err = rawSocket(s.kind); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("set SO_REUSEADDR: %w", err)
	}
	if err := unix.Bind(s.fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().Unmap().As4()}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if s.kind != UDPRR {
		if err := unix.Listen(s.fd, 128); err != nil {
			return err
		}
	}
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return fmt.Errorf("read the socket's address: %w", err)
	}
	in4 := sa.(*unix.SockaddrInet4)
	s.addr = netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), uint16(in4.Port)) //nolint:gosec // a port
	return nil
}

// Close closes the socket, when no session is running.
func (s *Server) Close() error {
	if s.fd < 0 {
		return nil
	}
	fd := s.fd
	s.fd = -1
	return unix.Close(fd)
}

// interrupt ends a session that waits for its client.
func (s *Server) interrupt() error {
	if err := unix.Shutdown(s.fd, unix.SHUT_RDWR); err != nil && !errors.Is(err, unix.ENOTCONN) {
		return fmt.Errorf("shut the server's socket down: %w", err)
	}
	return nil
}

// errNoClient says that nobody came for a while.
var errNoClient = errors.New("no client came")

// ServeOne serves the next session, on a thread in the server's place. It waits for the client no longer than
// a few seconds.
func (s *Server) ServeOne() error {
	if err := s.place.Do(s.session); err != nil {
		return fmt.Errorf("serve %s on %s: %w", s.kind, s.addr, err)
	}
	return nil
}

// Serve serves sessions until ctx ends. A session that breaks off, as when its client is killed, is reported
// to warn and does not end it.
func (s *Server) Serve(ctx context.Context, warn func(error)) error {
	return s.place.Do(func() error {
		for ctx.Err() == nil {
			if err := s.session(); err != nil && !errors.Is(err, errNoClient) {
				warn(fmt.Errorf("serve %s on %s: %w", s.kind, s.addr, err))
			}
		}
		return nil
	})
}

func (s *Server) session() error {
	switch s.kind {
	case TCPRR:
		return s.withConnection(s.serveRR)
	case TCPStream:
		return s.withConnection(s.serveStream)
	case UDPRR:
		return s.serveUDP()
	}
	return s.serveCRR()
}

// accept waits for the first connection of a session, telling Go's scheduler.
func (s *Server) accept() (int, error) {
	for {
		fd, _, err := unix.Accept4(s.fd, unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			return fd, nil
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINVAL): // the latter after interrupt
			return -1, errNoClient
		case !errors.Is(err, unix.EINTR):
			return -1, fmt.Errorf("accept: %w", err)
		}
	}
}

func (s *Server) withConnection(serve func(fd int) error) error {
	fd, err := s.accept()
	if err != nil {
		return err
	}
	defer rawClose(fd)
	return serve(fd)
}

// tally counts what a server's thread did since it began.
type tally struct {
	report
	began time.Time
	cpu0  time.Duration
}

func startTally() (t tally, err error) {
	t.cpu0, err = threadCPU()
	t.began = time.Now()
	return t, err
}

// finish ends the count and sends the report.
func (t *tally) finish(send func([]byte) error) error {
	cpu, err := threadCPU()
	if err != nil {
		return err
	}
	t.elapsed, t.cpu = time.Since(t.began), cpu-t.cpu0
	return send(t.encode())
}

func (s *Server) serveRR(fd int) error {
	t, err := startTally()
	if err != nil {
		return err
	}
	buf := make([]byte, 1)
	for {
		if err := readFull(fd, buf); err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		if buf[0] == reportByte {
			break
		}
		if err := rawWrite(fd, buf); err != nil {
			return fmt.Errorf("write reply: %w", err)
		}
		t.operations++
	}
	return t.finish(func(r []byte) error { return rawWrite(fd, r) })
}

func (s *Server) serveCRR() error {
	fd, err := s.accept()
	if err != nil {
		return err
	}
	defer func() { rawClose(fd) }() // of the connection that is open then
	t, err := startTally()
	if err != nil {
		return err
	}
	buf := make([]byte, 1)
	for {
		if err := readFull(fd, buf); err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		if buf[0] == reportByte {
			break
		}
		if err := rawWrite(fd, buf); err != nil {
			return fmt.Errorf("write reply: %w", err)
		}
		rawClose(fd)
		t.operations++
		if fd, err = rawAccept(s.fd); err != nil { // and fd is -1
			return fmt.Errorf("accept: %w", err)
		}
	}
	return t.finish(func(r []byte) error { return rawWrite(fd, r) })
}

func (s *Server) serveUDP() error {
	buf := make([]byte, 64)
	var from socketAddr
	size, _, err := unix.Recvfrom(s.fd, buf, unix.MSG_PEEK)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) || (err == nil && size == 0) {
		return errNoClient
	}
	if err != nil {
		return fmt.Errorf("wait for a client: %w", err)
	}
	t, err := startTally()
	if err != nil {
		return err
	}
	for {
		n, err := rawRecvFrom(s.fd, buf, &from)
		if err != nil || n == 0 {
			return fmt.Errorf("read request: %w", errors.Join(err, errNoClient))
		}
		if buf[0] == reportByte {
			break
		}
		if err := rawSendTo(s.fd, buf[:n], &from); err != nil {
			return fmt.Errorf("write reply: %w", err)
		}
		t.operations++
	}
	return t.finish(func(r []byte) error { return rawSendTo(s.fd, r, &from) })
}

// serveStream reads the window from the client, counts what comes in it, and then reads on to the end.
func (s *Server) serveStream(fd int) error {
	header := make([]byte, 16)
	if err := readFull(fd, header); err != nil {
		return fmt.Errorf("read window: %w", err)
	}
	begin := time.Now().Add(time.Duration(binary.BigEndian.Uint64(header)))
	length := time.Duration(binary.BigEndian.Uint64(header[8:]))
	buf := make([]byte, blockSize)
	var t tally
	for reported := false; ; {
		n, err := rawRead(fd, buf)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			return nil
		}
		t.bytes += uint64(n)
		switch now := time.Now(); {
		case reported: // and reads until the client has seen it
		case t.began.IsZero():
			if now.After(begin) {
				t, err = startTally() // and forgets the bytes of the warm-up
			}
		case now.After(t.began.Add(length)):
			err = t.finish(func(report []byte) error { return rawWrite(fd, report) })
			reported = true
		}
		if err != nil {
			return err
		}
	}
}
