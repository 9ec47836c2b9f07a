package prober

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// receiveBuffer is what a capture may fall behind by, in bytes.
const receiveBuffer = 8 << 20

// linkSocket is an AF_PACKET socket whose reads respect deadlines and Close.
type linkSocket struct {
	file *os.File
	raw  syscall.RawConn
}

// openLink binds to one device, or to all with index 0. protocol is an
// EtherType in host byte order.
func openLink(index int, protocol uint16) (*linkSocket, error) {
	// Protocol 0 receives nothing: without it, frames of other devices would
	// be queued between socket and bind.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket (needs CAP_NET_RAW): %w", err)
	}
	file := os.NewFile(uintptr(fd), "packet")
	// Not fatal: without CAP_NET_ADMIN the buffer is just smaller, and losses are reported.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(protocol), Ifindex: index}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind the packet socket: %w", err), file.Close())
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &linkSocket{file: file, raw: raw}, nil
}

func (s *linkSocket) Close() error { return s.file.Close() }

func (s *linkSocket) SetReadDeadline(at time.Time) error { return s.file.SetReadDeadline(at) }

// read returns one frame and where it came from.
func (s *linkSocket) read(buffer []byte) (int, *unix.SockaddrLinklayer, error) {
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

// queued is read without waiting and without regard to the deadline; n is 0
// when no frame is queued.
func (s *linkSocket) queued(buffer []byte) (n int, link *unix.SockaddrLinklayer, err error) {
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

func (s *linkSocket) write(frame []byte) error {
	_, err := s.file.Write(frame)
	return err
}

// lost returns how many frames the kernel dropped since the last call.
func (s *linkSocket) lost() (int, error) {
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

// device finds a device by name and its first IPv4 address, which may be nil.
func device(name string) (*net.Interface, net.IP, error) {
	dev, err := net.InterfaceByName(name)
	if err != nil {
		return nil, nil, fmt.Errorf("find device %q: %w", name, err)
	}
	addresses, err := dev.Addrs()
	if err != nil {
		return nil, nil, fmt.Errorf("list the addresses of %s: %w", name, err)
	}
	for _, address := range addresses {
		if prefix, ok := address.(*net.IPNet); ok && prefix.IP.To4() != nil {
			return dev, prefix.IP.To4(), nil
		}
	}
	return dev, nil, nil
}
