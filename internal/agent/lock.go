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

	"wirelab.dev/wirelab/internal/filelock"
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
	err = filelock.Try(f)
	if errors.Is(err, filelock.ErrHeld) || err == nil && !filelock.IsAt(f, path) { // who had it has removed it: it locks nothing now
		err = errLocked
	}
	if err != nil {
		f.Close()
		return nil, err
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
