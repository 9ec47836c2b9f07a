package workload

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The functions below call the kernel without telling Go's scheduler, which would otherwise give the thread's
// place to another goroutine in the middle of a measurement. They may block for as long as patience. A signal
// interrupts them when the runtime wants to stop all threads, for garbage collection say: it must have its way.

func interrupted(errno unix.Errno) bool {
	if errno != unix.EINTR {
		return false
	}
	runtime.Gosched()
	return true
}

func rawRead(fd int, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		if errno == 0 {
			return int(n), nil
		}
		if !interrupted(errno) {
			return 0, errno
		}
	}
}

func rawWrite(fd int, b []byte) error { return rawSend(fd, b, 0) }

// rawSend takes flags of send(2).
func rawSend(fd int, b []byte, flags int) error {
	for len(b) > 0 {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), uintptr(flags), 0, 0) //nolint:gosec // flags
		switch {
		case errno == 0:
			b = b[n:]
		case !interrupted(errno):
			return errno
		}
	}
	return nil
}

// rawReadable reports whether there is something to read, and does not wait for it.
func rawReadable(fd int) (bool, error) {
	var b [1]byte
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
			unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0: // the end of the connection too
			return true, nil
		case errno == unix.EAGAIN:
			return false, nil
		case !interrupted(errno):
			return false, errno
		}
	}
}

// readFull reads as many bytes as b has room for.
func readFull(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := rawRead(fd, b)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("the other end closed with %d bytes missing", len(b))
		}
		b = b[n:]
	}
	return nil
}

// socketAddr is an IPv4 address as the kernel has it.
type socketAddr = unix.RawSockaddrInet4

func toSocketAddr(a netip.AddrPort) socketAddr {
	sa := socketAddr{Family: unix.AF_INET, Addr: a.Addr().Unmap().As4()}
	sa.Port = binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, a.Port()))
	return sa
}

// rawSocket opens a socket of a kind, configured.
func rawSocket(kind Kind) (int, error) {
	proto := unix.SOCK_STREAM
	if kind == UDPRR {
		proto = unix.SOCK_DGRAM
	}
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, unix.AF_INET, uintptr(proto|unix.SOCK_CLOEXEC), 0)
	if errno != 0 {
		return -1, fmt.Errorf("open socket: %w", errno)
	}
	if err := configure(int(fd), kind); err != nil {
		rawClose(int(fd))
		return -1, err
	}
	return int(fd), nil
}

func rawConnect(fd int, to *socketAddr) error {
	for {
		_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(to)), unix.SizeofSockaddrInet4)
		switch {
		case errno == 0 || errno == unix.EISCONN: // the latter after a signal
			return nil
		case errno != unix.EALREADY && !interrupted(errno):
			return errno
		}
	}
}

func rawAccept(fd int) (int, error) {
	for {
		conn, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_CLOEXEC, 0, 0)
		if errno == 0 {
			return int(conn), nil
		}
		if !interrupted(errno) {
			return -1, errno
		}
	}
}

func rawRecvFrom(fd int, b []byte, from *socketAddr) (int, error) {
	for {
		size := uint32(unix.SizeofSockaddrInet4)
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0,
			uintptr(unsafe.Pointer(from)), uintptr(unsafe.Pointer(&size)))
		if errno == 0 {
			return int(n), nil
		}
		if !interrupted(errno) {
			return 0, errno
		}
	}
}

func rawSendTo(fd int, b []byte, to *socketAddr) error {
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0,
			uintptr(unsafe.Pointer(to)), unix.SizeofSockaddrInet4)
		if errno == 0 {
			return nil
		}
		if !interrupted(errno) {
			return errno
		}
	}
}

func rawClose(fd int) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// configure sets what is the same for every socket of a kind. Accepted connections inherit it.
func configure(fd int, kind Kind) error {
	wait := unix.NsecToTimeval(int64(patience))
	for _, opt := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, opt, &wait); err != nil {
			return fmt.Errorf("limit the socket's waiting: %w", err)
		}
	}
	if kind == UDPRR {
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("set TCP_NODELAY: %w", err)
	}
	if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, congestion); err != nil {
		return fmt.Errorf("set TCP_CONGESTION to %s: %w", congestion, err)
	}
	if kind != TCPStream {
		return nil
	}
	for _, opt := range []int{unix.SO_SNDBUF, unix.SO_RCVBUF} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, streamBuffer); err != nil {
			return fmt.Errorf("set the socket's buffer to %d bytes: %w", streamBuffer, err)
		}
	}
	return nil
}

// dial opens a socket to a server.
func dial(kind Kind, to *socketAddr) (int, error) {
	fd, err := rawSocket(kind)
	if err != nil {
		return -1, err
	}
	if err := rawConnect(fd, to); err != nil {
		rawClose(fd)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

// report is what a server tells at the end of a session, in network byte order.
type report struct {
	operations, bytes uint64
	elapsed, cpu      time.Duration
}

func (r report) encode() []byte {
	var b []byte
	for _, v := range []uint64{r.operations, r.bytes, uint64(r.elapsed), uint64(r.cpu)} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

func readReport(fd int) (report, error) {
	b := make([]byte, 4*8)
	if err := readFull(fd, b); err != nil {
		return report{}, err
	}
	at := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	return report{operations: at(0), bytes: at(1), elapsed: time.Duration(at(2)), cpu: time.Duration(at(3))}, nil
}
