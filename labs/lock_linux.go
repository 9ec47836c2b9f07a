package labs

import (
	"errors"
	"fmt"
	"net"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// take takes a lock by its name, or returns [ErrBusy]. It is an abstract socket, which has no file and no owner: all users of this
// machine meet in the same name whatever their folders and rights, and the kernel frees it when the process dies.
func take(name string) (unlock func(), err error) {
	l, err := net.Listen("unix", abstract(name))
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, ErrBusy
	}
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept() // somebody wants to know who holds the lock, and the kernel has told
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	return func() { _ = l.Close() }, nil
}

func abstract(name string) string { return "@wirelab/" + name }

// holder says who holds a lock, as far as the kernel tells.
func holder(name string) string {
	c, err := net.Dial("unix", abstract(name))
	if err != nil {
		return ""
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return ""
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || credErr != nil || cred.Pid == 0 {
		return ""
	}
	who := strconv.Itoa(int(cred.Uid))
	if u, err := user.LookupId(who); err == nil {
		who = u.Username
	}
	return fmt.Sprintf(" (process %d of user %s)", cred.Pid, who)
}
