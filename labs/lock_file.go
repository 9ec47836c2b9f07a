package labs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"wirelab.dev/wirelab/internal/filelock"
)

// takeFile takes a lock by its name, or returns [ErrBusy], where the kernel has no abstract sockets. It is the lock of a file
// that stays in dir: the kernel frees it when the process dies.
func takeFile(dir, name string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, strings.ReplaceAll(name, "/", "-")), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := filelock.Try(f); err != nil {
		if errors.Is(err, filelock.ErrHeld) {
			err = ErrBusy
		}
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}
