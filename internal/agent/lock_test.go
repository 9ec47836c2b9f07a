package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestOneAgentANode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "agent.lock")
	first, err := lockNode(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockNode(path); !errors.Is(err, errLocked) {
		t.Errorf("a second lock: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := awaitLock(ctx, path, quiet()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for it in vain: %v", err)
	}
	got := make(chan error, 1)
	go func() {
		f, err := awaitLock(t.Context(), path, quiet())
		if err == nil {
			err = f.Close()
		}
		got <- err
	}()
	// The first cleans up, the lock's file included, before it lets go: the
	// one who waits must not take the file that nobody else can find.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	first.Close()
	if err := <-got; err != nil {
		t.Errorf("waiting for it: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the lock was taken on a file that is gone: %v", err)
	}
}
