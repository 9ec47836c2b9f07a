package netnstest

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	path := filepath.Join(mount(tb, "cgroup2"), "wirelab-test-"+strings.ToLower(rand.Text()[:8]))
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
