package labs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/gofrs/flock"
)

// ErrBusy means that another lab command is changing the lab at this moment.
var ErrBusy = errors.New("another lab command is at work on it")

// lock makes sure that one command at a time changes a lab. The kernel gives the lock back when a process dies, so a
// killed one leaves nothing to clean up. The caller unlocks.
func lock(name string) (unlock func(), err error) {
	dir := filepath.Join(os.TempDir(), "wirelab-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("lock lab %q: %w", name, err)
	}
	path := filepath.Join(dir, name+".lock")
	for {
		l := flock.New(path)
		got, err := l.TryLock()
		if err != nil {
			return nil, fmt.Errorf("lock lab %q: %w", name, err)
		}
		if !got {
			return nil, fmt.Errorf("lab %q: %w: wait for it to end", name, ErrBusy)
		}
		same, err := isFile(l, path)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock lab %q: %w", name, err), l.Close())
		}
		if same {
			return func() {
				// Removed while still locked: whoever opened it meanwhile sees that it is not the file of that name.
				_ = os.Remove(path)
				_ = l.Close()
			}, nil
		}
		_ = l.Close()
	}
}

// isFile tells whether the locked file is still the one of that name.
func isFile(l *flock.Flock, path string) (bool, error) {
	now, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	held, err := l.Stat()
	if err != nil {
		return false, err
	}
	return os.SameFile(now, held), nil
}
