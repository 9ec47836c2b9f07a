package atomicfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary runs itself as a writer that is short of space or gets killed.
const (
	roleVar = "ATOMICFILE_TEST_ROLE"
	fileVar = "ATOMICFILE_TEST_FILE"
)

var (
	versionA = bytes.Repeat([]byte("a"), 1<<20)
	versionB = bytes.Repeat([]byte("b"), 1<<20)
)

func TestMain(m *testing.M) {
	file := os.Getenv(fileVar)
	switch os.Getenv(roleVar) {
	case "short of space":
		// What a process may write stands in for what a disk has left.
		limit := unix.Rlimit{Cur: 4096, Max: 4096}
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
			os.Exit(3)
		}
		if err := Replace(file, versionB, 0o600); err != nil {
			os.Exit(4)
		}
		os.Exit(0)
	case "for ever":
		for {
			for _, v := range [][]byte{versionA, versionB} {
				if err := Replace(file, v, 0o600); err != nil {
					os.Exit(4)
				}
			}
		}
	}
	os.Exit(m.Run())
}

func writer(t *testing.T, role, file string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), roleVar+"="+role, fileVar+"="+file)
	return cmd
}

func put(t *testing.T, name string, content []byte, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// alone expects nothing but these names in a folder.
func alone(t *testing.T, dir string, names ...string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, e := range all {
		have = append(have, e.Name())
	}
	if strings.Join(have, " ") != strings.Join(names, " ") {
		t.Errorf("in the folder: %q, want %q", have, names)
	}
}

func TestFullDiskLeavesTheOldBytes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config")
	put(t, file, versionA, 0o600)
	cmd := writer(t, "short of space", file)
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 4 {
		t.Fatalf("the writer ended with %v, want it to fail to write", err)
	}
	if !bytes.Equal(read(t, file), versionA) {
		t.Error("the file is not what it was")
	}
	alone(t, dir, "config")
}

func TestKillLeavesOneVersionWhole(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config")
	put(t, file, versionA, 0o600)
	for i := range 20 {
		cmd := writer(t, "for ever", file)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(10+7*i) * time.Millisecond) // some instruction or other
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if b := read(t, file); !bytes.Equal(b, versionA) && !bytes.Equal(b, versionB) {
			t.Fatalf("after kill %d the file has %d bytes that are neither version", i, len(b))
		}
	}
	// What the killed left goes when it is old.
	old := time.Now().Add(-2 * leftoverAge)
	left, err := filepath.Glob(filepath.Join(dir, pattern(file)))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range left {
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := Replace(file, versionA, 0o600); err != nil {
		t.Fatal(err)
	}
	alone(t, dir, "config")
}

func TestKeepsModeAndOwner(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	put(t, file, []byte("old"), 0o640)
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 12345, 54321
		if err := os.Chown(file, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	if err := Replace(file, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	if info.Mode().Perm() != 0o640 || int(st.Uid) != uid || int(st.Gid) != gid || string(read(t, file)) != "new" {
		t.Errorf("mode %v, owner %d:%d, content %q", info.Mode(), st.Uid, st.Gid, read(t, file))
	}
}

func TestFollowsLinks(t *testing.T) {
	dir, far := t.TempDir(), t.TempDir()
	put(t, filepath.Join(far, "real"), []byte("old"), 0o600)
	for link, to := range map[string]string{"config": filepath.Join(far, "real"), "twice": "config", "dangling": filepath.Join(far, "new")} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for link, real := range map[string]string{"config": "real", "twice": "real", "dangling": "new"} {
		if err := Replace(filepath.Join(dir, link), []byte(link), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := read(t, filepath.Join(far, real)); string(got) != link {
			t.Errorf("%s: the file behind the link has %q", link, got)
		}
		if info, err := os.Lstat(filepath.Join(dir, link)); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("%s is a link no more", link)
		}
	}
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	if err := Replace(filepath.Join(dir, "loop"), nil, 0o600); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a link to itself: %v", err)
	}
}

// asNobody runs f with the rights of a user who owns nothing.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, call := range []uintptr{unix.SYS_SETFSGID, unix.SYS_SETFSUID} {
		if _, _, e := unix.RawSyscall(call, 65534, 0, 0); e != 0 {
			t.Fatal(e)
		}
	}
	defer func() {
		for _, call := range []uintptr{unix.SYS_SETFSUID, unix.SYS_SETFSGID} {
			_, _, _ = unix.RawSyscall(call, 0, 0, 0)
		}
	}()
	f()
}

func TestFolderThatMayNotBeWrittenTo(t *testing.T) {
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "config")
	put(t, file, []byte("old"), 0o666)
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() {
		if err := Try(file, []byte("new"), 0o600); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("trying: %v, want a refusal", err)
		}
		if err := Replace(file, []byte("new"), 0o600); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("replacing: %v, want a refusal", err)
		}
	})
	if string(read(t, file)) != "old" {
		t.Error("the file is not what it was")
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Try(file, []byte("new"), 0o600); err != nil || string(read(t, file)) != "old" {
		t.Errorf("trying where one may: %v, %q", err, read(t, file))
	}
	alone(t, dir, "config")
}
