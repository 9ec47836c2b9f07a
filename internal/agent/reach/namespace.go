package reach

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace that lives as long as this process has it
// open, and no longer: nothing of it is left when the agent is killed.
type namespace struct{ file *os.File }

// newNamespace makes one in which the agent may send pings without the right
// to send any packet it likes.
func newNamespace(proc string) (*namespace, error) {
	var file *os.File
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		path := filepath.Join(proc, "net/ipv4/ping_group_range")
		if err := os.WriteFile(path, []byte("0 2147483647"), 0o644); err != nil {
			return fmt.Errorf("allow pings in the network namespace: %w", err)
		}
		var err error
		if file, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return fmt.Errorf("open the network namespace: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("make the health endpoint: %w", err)
	}
	return &namespace{file}, nil
}

// do calls f on a thread in the namespace. Sockets that f itself makes stay
// there; goroutines that it starts are elsewhere.
func (n *namespace) do(f func() error) error {
	return onThread(func() error {
		if err := n.enter(); err != nil {
			return err
		}
		return f()
	})
}

// enter is for goroutines that are locked to their thread and end with it.
func (n *namespace) enter() error {
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the health endpoint's network namespace: %w", err)
	}
	return nil
}

func (n *namespace) close() { n.file.Close() } //nolint:errcheck // it was only read

// onThread calls f on a thread that ends with it, so that none goes on in the
// wrong namespace.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}
