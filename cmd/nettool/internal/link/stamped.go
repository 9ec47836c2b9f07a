package link

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Frame is a frame as it crossed a device.
type Frame struct {
	At       time.Time
	Data     []byte // as much of it as the buffer had room for
	Length   int
	Outgoing bool
}

// ErrGone says that the device of a socket is no more.
var ErrGone = errors.New("the device is gone")

// Stamp has [Socket.Next] tell the times of frames by the kernel's clock.
func (s *Socket) Stamp() error { return s.set(unix.SO_TIMESTAMPNS, 1, "ask for the times of frames") }

// Buffer sets how many bytes may be queued, which needs CAP_NET_ADMIN.
func (s *Socket) Buffer(bytes int) error {
	return s.set(unix.SO_RCVBUFFORCE, bytes, "set the room for frames")
}

func (s *Socket) set(option, value int, what string) error {
	var err error
	control := s.raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, value) })
	if err := errors.Join(control, err); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Next reads a frame that is queued into the buffer, without waiting; ok says whether there was one. The socket has been
// told to [Socket.Stamp]. The error wraps [ErrGone] when the device is no more; one that is down has nothing queued.
func (s *Socket) Next(buffer []byte) (f Frame, ok bool, err error) {
	var (
		words   [64]byte
		n, oobn int
		from    unix.Sockaddr
	)
	control := s.raw.Control(func(fd uintptr) {
		n, oobn, _, from, err = unix.Recvmsg(int(fd), buffer, words[:], unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		// A device that goes is down before, and only that is said.
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENETDOWN) {
			from, err = nil, nil
			if bound, failed := unix.Getsockname(int(fd)); failed == nil && bound.(*unix.SockaddrLinklayer).Ifindex <= 0 {
				err = ErrGone
			}
		}
	})
	if err == nil && from == nil || errors.Is(err, unix.EINTR) {
		return Frame{}, false, control
	}
	if err := errors.Join(control, err); err != nil {
		return Frame{}, false, err
	}
	link, err := origin(from)
	if err != nil {
		return Frame{}, false, err
	}
	at, err := stamp(words[:oobn])
	return Frame{At: at, Data: buffer[:min(n, len(buffer))], Length: n, Outgoing: link.Pkttype == unix.PACKET_OUTGOING}, true, err
}

// stamp is the time that the kernel says with a frame.
func stamp(words []byte) (time.Time, error) {
	all, err := unix.ParseSocketControlMessage(words)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the time of a frame: %w", err)
	}
	for _, m := range all {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
			return time.Unix((*unix.Timespec)(unsafe.Pointer(&m.Data[0])).Unix()), nil
		}
	}
	return time.Time{}, errors.New("a frame has no time")
}

// Wait returns when a frame is queued at one of the sockets, or after that time.
func Wait(most time.Duration, sockets ...*Socket) error {
	fds := make([]unix.PollFd, len(sockets))
	for i, s := range sockets {
		if err := s.raw.Control(func(fd uintptr) { fds[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN} }); err != nil { //nolint:gosec // a file descriptor
			return err
		}
	}
	if _, err := unix.Poll(fds, int(most.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for frames: %w", err)
	}
	return nil
}
