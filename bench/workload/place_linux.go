package workload

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
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

// KeepOff has the process' threads, and all that they start, leave a CPU to what has its [Place] there, until restore is
// called. Where there is no other CPU it does nothing.
func KeepOff(cpu int) (restore func() error, err error) {
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, fmt.Errorf("read on which CPUs this process may run: %w", err)
	}
	others := before
	others.Clear(cpu)
	if others.Count() == 0 {
		return func() error { return nil }, nil
	}
	return func() error { return setAffinity(before) }, setAffinity(others)
}

// setAffinity says on which CPUs the process' threads may run, and those that they start.
func setAffinity(cpus unix.CPUSet) error {
	for done := map[int]bool{}; ; {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("list threads: %w", err)
		}
		seen := len(done)
		for _, entry := range threads {
			id, err := strconv.Atoi(entry.Name())
			if err != nil {
				return fmt.Errorf("list threads: %w", err)
			}
			if done[id] {
				continue
			}
			if err := unix.SchedSetaffinity(id, &cpus); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("pin thread %d: %w", id, err)
			}
			done[id] = true
		}
		if len(done) == seen { // none has been started meanwhile
			return nil
		}
	}
}
