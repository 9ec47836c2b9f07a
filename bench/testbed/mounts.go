package testbed

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mount makes a file system that is mounted nowhere: its path leads through the open file, and it is gone
// when that is closed.
func mount(kind string) (*os.File, string, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, "", fmt.Errorf("open file system %s: %w", kind, err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, "", fmt.Errorf("create file system %s: %w", kind, err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, "", fmt.Errorf("mount file system %s: %w", kind, err)
	}
	// The process is named by its number, so that its children can go that way too.
	return os.NewFile(uintptr(fd), kind), fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), nil
}

// cgroupPrefix begins the names of our cgroups. The number of the process follows.
const cgroupPrefix = "wirelab-bench-"

// cgroups is a cgroup that this process is in, for threaded ones below it, which single threads can be in.
type cgroups struct {
	fs   *os.File
	path string // of ours
	home string // where the process was before
	made []string
}

// enterCgroups makes them and moves this process there.
func enterCgroups() (_ *cgroups, err error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("read own cgroup: %w", err)
	}
	fs, root, err := mount("cgroup2")
	if err != nil {
		return nil, err
	}
	c := &cgroups{fs: fs, home: root, path: filepath.Join(root, fmt.Sprint(cgroupPrefix, os.Getpid()))}
	for line := range strings.Lines(string(own)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			c.home = filepath.Join(root, path)
		}
	}
	removeLeftCgroups(root)
	if err := os.Mkdir(c.path, 0o755); err != nil {
		return nil, errors.Join(fmt.Errorf("make cgroup: %w", err), fs.Close())
	}
	if err := moveProcess(c.path); err != nil {
		return nil, errors.Join(err, c.leave())
	}
	return c, nil
}

// removeLeftCgroups removes what killed runs left. What is still in use cannot be removed, and stays.
func removeLeftCgroups(root string) {
	found, _ := filepath.Glob(filepath.Join(root, cgroupPrefix+"*")) // the pattern is right
	for _, dir := range found {
		process := strings.TrimPrefix(filepath.Base(dir), cgroupPrefix)
		if _, err := os.Stat(filepath.Join("/proc", process)); err == nil && process != fmt.Sprint(os.Getpid()) {
			continue
		}
		below, _ := filepath.Glob(filepath.Join(dir, "*", "cgroup.type"))
		for _, file := range below {
			_ = os.Remove(filepath.Dir(file))
		}
		_ = os.Remove(dir)
	}
}

func moveProcess(to string) error {
	if err := os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte("0"), 0); err != nil {
		return fmt.Errorf("move to cgroup: %w", err)
	}
	return nil
}

// add makes a threaded cgroup.
func (c *cgroups) add(name string) (string, error) {
	path := filepath.Join(c.path, name)
	if err := os.Mkdir(path, 0o755); err != nil {
		return "", fmt.Errorf("make cgroup: %w", err)
	}
	c.made = append(c.made, path)
	if err := os.WriteFile(filepath.Join(path, "cgroup.type"), []byte("threaded"), 0); err != nil {
		return "", fmt.Errorf("make cgroup threaded: %w", err)
	}
	return path, nil
}

func (c *cgroups) leave() error {
	errs := []error{moveProcess(c.home)}
	for _, path := range append(c.made, c.path) {
		errs = append(errs, os.Remove(path))
	}
	return errors.Join(append(errs, c.fs.Close())...)
}
