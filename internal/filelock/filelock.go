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

// Try takes the lock of f, or returns [ErrHeld] at once.
func Try(f *os.File) error {
	err := flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrHeld
	}
	return err
}

// Wait takes the lock of f when it is free.
func Wait(f *os.File) error { return flock(f, unix.LOCK_EX) }

// Free gives the lock of f back. Closing f does so too.
func Free(f *os.File) error { return flock(f, unix.LOCK_UN) }

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
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
