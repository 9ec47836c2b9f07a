// Package netns finds and enters network namespaces of containers.
package netns

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Of opens the network namespace of a container: that of a process whose cgroup is named after it. The caller closes it.
func Of(container string) (*os.File, error) {
	all, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return nil, err
	}
	for _, path := range all {
		// A process that has just ended is none to ask.
		if cgroup, err := os.ReadFile(path); err != nil || !bytes.Contains(cgroup, []byte(container)) {
			continue
		}
		if ns, err := os.Open(filepath.Join(filepath.Dir(path), "ns/net")); err == nil {
			return ns, nil
		}
	}
	return nil, fmt.Errorf("no process runs in its container, %s", container)
}

// Within calls f in a network namespace, on a thread that ends with it.
func Within(ns *os.File, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and it stays locked, so that nothing else runs there
		err := enter(ns)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// Restart makes the process this program with other arguments, argv[0] included, and all of it in a network namespace. It
// returns only when it cannot.
func Restart(ns *os.File, argv []string) error {
	runtime.LockOSThread()
	if err := enter(ns); err != nil {
		return err
	}
	// What is left of a process is the thread that calls execve.
	return fmt.Errorf("start again: %w", unix.Exec("/proc/self/exe", argv, os.Environ()))
}

func enter(ns *os.File) error {
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	return nil
}
