// Package link reads and writes frames of devices.
package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// receiveBuffer is what a capture may fall behind by, in bytes.
const receiveBuffer = 8 << 20

// Socket is an AF_PACKET socket whose reads respect deadlines and Close.
type Socket struct {
	file *os.File
	raw  syscall.RawConn
}

// Open binds to one device, by its index. protocol is an EtherType
// in host byte order. Of a filter, where there is one, only what it picks is
// received. The caller closes the socket.
func Open(index int, protocol uint16, filter ...unix.SockFilter) (*Socket, error) {
	// Protocol 0 receives nothing: without it, frames of other devices would
	// be queued between socket and bind.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket (needs CAP_NET_RAW): %w", err)
	}
	file := os.NewFile(uintptr(fd), "packet")
	// Not fatal: without CAP_NET_ADMIN the buffer is just smaller, and losses are reported.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	if len(filter) > 0 {
		program := &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]} //nolint:gosec // the kernel takes 4096 at most
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, program); err != nil {
			return nil, errors.Join(fmt.Errorf("attach the filter: %w", err), file.Close())
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(protocol), Ifindex: index}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind the packet socket: %w", err), file.Close())
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &Socket{file: file, raw: raw}, nil
}

// Close gives the socket up.
func (s *Socket) Close() error { return s.file.Close() }

// SetReadDeadline ends reads at a time.
func (s *Socket) SetReadDeadline(at time.Time) error { return s.file.SetReadDeadline(at) }

// Read returns one frame and where it came from.
func (s *Socket) Read(buffer []byte) (int, *unix.SockaddrLinklayer, error) {
	var (
		n    int
		from unix.Sockaddr
		err  error
	)
	wait := s.raw.Read(func(fd uintptr) bool {
		n, from, err = unix.Recvfrom(int(fd), buffer, 0)
		return !errors.Is(err, unix.EAGAIN)
	})
	if wait != nil {
		return 0, nil, wait
	}
	if err != nil {
		return 0, nil, err
	}
	link, err := origin(from)
	return n, link, err
}

// Queued is Read without waiting and without regard to the deadline; n is 0
// when no frame is queued.
func (s *Socket) Queued(buffer []byte) (n int, link *unix.SockaddrLinklayer, err error) {
	var from unix.Sockaddr
	control := s.raw.Control(func(fd uintptr) { n, from, err = unix.Recvfrom(int(fd), buffer, unix.MSG_DONTWAIT) })
	if errors.Is(err, unix.EAGAIN) {
		return 0, nil, nil
	}
	if err := errors.Join(control, err); err != nil {
		return 0, nil, err
	}
	link, err = origin(from)
	return n, link, err
}

func origin(from unix.Sockaddr) (*unix.SockaddrLinklayer, error) {
	link, ok := from.(*unix.SockaddrLinklayer)
	if !ok {
		return nil, fmt.Errorf("the kernel gave a %T as a frame's origin", from)
	}
	return link, nil
}

// Write sends a frame.
func (s *Socket) Write(frame []byte) error {
	_, err := s.file.Write(frame)
	return err
}

// Lost returns how many frames the kernel dropped since the last call.
func (s *Socket) Lost() (int, error) {
	var (
		stats *unix.TpacketStats
		err   error
	)
	control := s.raw.Control(func(fd uintptr) {
		stats, err = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
	})
	if err := errors.Join(control, err); err != nil {
		return 0, fmt.Errorf("ask how many frames were lost: %w", err)
	}
	return int(stats.Drops), nil
}

func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
