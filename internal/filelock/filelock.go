// Package filelock has one process at a time work on what a file or folder stands for. The lock is the kernel's
// (flock(2)): it belongs to the open file, and is free when that is closed, and so when the process dies.
package filelock

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrHeld says that another process, or another open file of this one, has the lock.
var ErrHeld = errors.New("the lock is held")

// Try takes the lock of f, or returns [ErrHeld] at once. Closing f gives it back.
func Try(f *os.File) error {
	for {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case err == nil:
			return nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return ErrHeld
		case !errors.Is(err, unix.EINTR):
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
}

// IsAt says whether path still names f. Who had the lock before may have removed the file, which is no lock then for
// those who open path from now on.
func IsAt(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(opened, named)
}
