package workload

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Place is where a thread runs.
type Place struct {
	// NetNS is an open file of a network namespace; negative means the process's own.
	NetNS int
	// Cgroup is the directory of a threaded cgroup; empty means the process's own.
	Cgroup string
	// CPU is the only one that the thread may use; negative means any.
	CPU int
}

// Here is the process's own place.
func Here() Place { return Place{NetNS: -1, CPU: -1} }

// Do runs f on a thread of its own in that place and returns its error. The thread ends with it, so that
// none goes on in the wrong place.
func (p Place) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked
		err := p.enter()
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func (p Place) enter() error {
	if p.Cgroup != "" {
		// "0" is the writing thread.
		if err := os.WriteFile(filepath.Join(p.Cgroup, "cgroup.threads"), []byte("0"), 0); err != nil {
			return fmt.Errorf("move thread to its cgroup: %w", err)
		}
	}
	if p.NetNS >= 0 {
		if err := unix.Setns(p.NetNS, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
	}
	if p.CPU >= 0 {
		var set unix.CPUSet
		set.Set(p.CPU)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("pin thread to CPU %d: %w", p.CPU, err)
		}
	}
	return nil
}

// threadCPU is the CPU time that the calling thread has used.
func threadCPU() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0, fmt.Errorf("read the thread's CPU time: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}
