package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// errLocked says that an agent runs on this node.
var errLocked = errors.New("an agent is running on this node")

// lockNode takes the lock that the one agent on a node holds; closing the
// file gives it back, and so does the end of the process. It does not wait:
// the error is errLocked when it is taken.
func lockNode(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the run directory: %w", err)
	}
	// The kubelet may have made it, open to all.
	if err := os.Chmod(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("restrict the run directory: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the node: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if !isAt(f, path) { // the one who had it removed it: it locks nothing now
		f.Close()
		return nil, errLocked
	}
	return f, nil
}

// awaitLock waits for the lock until ctx is done: an agent that is being
// replaced may still be cleaning up.
func awaitLock(ctx context.Context, path string, log *slog.Logger) (*os.File, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for waited := false; ; waited = true {
		f, err := lockNode(path)
		if !errors.Is(err, errLocked) {
			return f, err
		}
		if !waited {
			log.Info("waiting for another agent on this node to stop", "lock", path)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the lock of the node: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

func isAt(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(opened, named)
}
