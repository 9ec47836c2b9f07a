package netnstest

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Cgroup is a cgroup2 directory without processes, for programs that are attached to cgroups. A child is
// started in it by its open file: SysProcAttr.CgroupFD.
type Cgroup struct {
	*os.File
	// Path leads to it for as long as the test runs.
	Path string
}

// NewCgroup makes one at the root of the hierarchy, wherever that is mounted or not. It is removed when
// the test ends, by which time its processes have to be gone.
func NewCgroup(tb testing.TB) *Cgroup {
	tb.Helper()
	RequireRoot(tb)
	root, err := mountCgroup2()
	if err != nil {
		tb.Fatalf("mount cgroup2: %v", err)
	}
	tb.Cleanup(func() { root.Close() })
	path := filepath.Join(fdPath(root), "wirelab-test-"+strings.ToLower(rand.Text()[:8]))
	if err := os.Mkdir(path, 0o755); err != nil {
		tb.Fatalf("make cgroup: %v", err)
	}
	tb.Cleanup(func() {
		if err := os.Remove(path); err != nil {
			tb.Errorf("remove cgroup: %v", err)
		}
	})
	dir, err := os.Open(path)
	if err != nil {
		tb.Fatalf("open cgroup: %v", err)
	}
	tb.Cleanup(func() { dir.Close() })
	return &Cgroup{File: dir, Path: path}
}

func mountCgroup2() (*os.File, error) {
	fs, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, err
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(mount), "cgroup2"), nil
}

func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
