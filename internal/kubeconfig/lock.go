package kubeconfig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/internal/filelock"
)

// patience is how long to wait for a lock that another command holds: kubectl and kind hold it for milliseconds.
const patience = 5 * time.Second

// lockMark is what our lock files hold. Other programs' are empty.
const lockMark = "wirelab\n"

// lockAll takes the locks of files in the way of client-go, a file beside each, and in an order on which all agree.
func lockAll(ctx context.Context, files []string) (unlock func(), err error) {
	files = slices.Clone(files)
	slices.Sort(files)
	var held []func()
	unlock = func() {
		for _, f := range slices.Backward(held) {
			f()
		}
	}
	for _, file := range files {
		free, err := lock(ctx, file+".lock")
		if err != nil {
			unlock()
			return nil, err
		}
		held = append(held, free)
	}
	return unlock, nil
}

func lock(ctx context.Context, name string) (func(), error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		free, err := tryLock(name)
		if err == nil || !errors.Is(err, fs.ErrExist) {
			return free, err
		}
		removeDead(name)
		select {
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, ctx.Err()
			}
			return nil, fmt.Errorf("%s has been there for %s: another command is changing the kubeconfig, or one was killed: remove that file when none is", name, patience)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tryLock makes the lock file. It appears whole and held: the kernel's own lock on it tells a living owner from a dead one.
func tryLock(name string) (func(), error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString(lockMark)
	if err == nil {
		err = filelock.Try(f)
	}
	if err == nil {
		err = os.Link(f.Name(), name)
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) {
		// A file system without hard links.
		_ = f.Close()
		f, err = os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	}
	if err != nil {
		if f != nil {
			_ = f.Close()
		}
		return nil, err
	}
	return func() {
		_ = os.Remove(name)
		_ = f.Close()
	}, nil
}

// removeDead removes a lock file of ours whose owner is dead. Those of other programs cannot be told from held ones.
func removeDead(name string) {
	f, err := os.Open(name)
	if err != nil {
		return
	}
	defer f.Close()
	b := make([]byte, len(lockMark)+1)
	if n, _ := f.Read(b); string(b[:n]) != lockMark {
		return
	}
	if filelock.Try(f) == nil && filelock.IsAt(f, name) {
		_ = os.Remove(name)
	}
}
