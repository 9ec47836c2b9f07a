package labs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/internal/docker"
)

// ErrBusy means that another lab command is changing the lab at this moment.
var ErrBusy = errors.New("another lab command is at work on it")

// lock makes sure that one command at a time changes a lab. The caller unlocks.
func lock(ctx context.Context, e *docker.Engine, name string) (unlock func(), err error) {
	info, err := e.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("lock lab %q: %w", name, err)
	}
	engine := info.ID
	if engine == "" {
		engine = e.Host()
	}
	return lockOn(engine, name)
}

// lockOn takes the lock of a lab on an engine. It is an abstract socket, which has no file and no owner: all users of
// this machine meet in the same name whatever their folders and rights, and the kernel frees it when the process dies.
// What it cannot see are commands in another network namespace, such as a container that has the engine's socket, or on
// another machine.
func lockOn(engine, name string) (unlock func(), err error) {
	sum := sha256.Sum256([]byte(engine))
	at := "@wirelab/" + hex.EncodeToString(sum[:8]) + "/" + name
	l, err := net.Listen("unix", at)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("lab %q: %w%s: wait for it to end", name, ErrBusy, holder(at))
	}
	if err != nil {
		return nil, fmt.Errorf("lock lab %q: %w", name, err)
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

// holder says who holds a lock, as far as the kernel tells.
func holder(at string) string {
	c, err := net.Dial("unix", at)
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
