package prober

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// dontFragment sets DF on what the socket sends and ignores what the kernel
// has learned of path MTUs, so that each probe finds out anew.
func dontFragment(_, _ string, c syscall.RawConn) error {
	var option error
	if err := c.Control(func(fd uintptr) { option = setDF(int(fd)) }); err != nil {
		return err
	}
	return option
}

func setDF(fd int) error {
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
}
