package prober

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// option sets an option of the sockets of a net.Dialer.
func option(set func(fd int) error) func(_, _ string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var failed error
		control := c.Control(func(fd uintptr) { failed = set(int(fd)) })
		return errors.Join(control, failed)
	}
}

// setDF sets DF on what the socket sends and ignores what the kernel has
// learned of path MTUs, so that each probe finds out anew.
func setDF(fd int) error {
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
}
