package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repository is one with a commit that has the files, a name and its content each.
func repository(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	gitIn(t, dir, "init", "-q")
	for i := 0; i < len(files); i += 2 {
		writeFile(t, filepath.Join(dir, files[i]), files[i+1])
	}
	commitIn(t, dir)
	return dir
}

func commitIn(t *testing.T, dir string) {
	t.Helper()
	gitIn(t, dir, "add", "-A")
	gitIn(t, dir, "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "commit", "-q", "--allow-empty", "-m", "x", "--date", "2020-01-01T00:00:00Z")
}

func gitIn(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_COMMITTER_DATE=2026-01-31T22:59:58Z")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func writeFile(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestHead: a release is of a commit, with its time, and of no other file.
func TestHead(t *testing.T) {
	dir := repository(t, "CHANGELOG.md", "## 0.1.0\n- a\n", "a/b", "committed", ".gitignore", "dist\n")
	writeFile(t, filepath.Join(dir, "dist", "x"), "ignored")
	s, err := head(t.Context(), dir)
	if err != nil || len(s.commit) != 40 || !s.at.Equal(at) {
		t.Fatalf("got %+v, %v", s, err)
	}
	if e, err := s.edition(t.Context()); err != nil || e.version != "v0.1.0" {
		t.Errorf("got %+v, %v", e, err)
	}
	tree := t.TempDir()
	if err := s.extract(t.Context(), tree); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(tree, "a", "b")); err != nil || string(b) != "committed" {
		t.Errorf("a/b is %q, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(tree, "dist")); err == nil {
		t.Error("a file of no commit is in it")
	}
	for _, change := range []string{"new", "a/b"} {
		writeFile(t, filepath.Join(dir, change), "changed")
		if _, err := head(t.Context(), dir); err == nil || !strings.Contains(err.Error(), change) || !strings.Contains(err.Error(), "commit them") {
			t.Errorf("with %s changed: %v", change, err)
		}
		commitIn(t, dir)
	}
}

// TestTag: one version is one commit.
func TestTag(t *testing.T) {
	dir := repository(t, "CHANGELOG.md", "## 0.1.0\n- a\n")
	gitIn(t, dir, "tag", "v0.1.0")
	s, err := head(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.edition(t.Context()); err != nil {
		t.Errorf("the commit that has the tag: %v", err)
	}
	commitIn(t, dir)
	if s, err = head(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.edition(t.Context()); err == nil || !strings.Contains(err.Error(), "v0.1.0 is the tag of another commit") {
		t.Errorf("the commit after it: %v", err)
	}
}

// TestWhole: a folder that is no release is not replaced, and half a release is in no folder.
func TestWhole(t *testing.T) {
	dir := t.TempDir()
	fill := func(part string) error { return os.WriteFile(filepath.Join(part, sumsFile), nil, 0o600) }
	out := filepath.Join(dir, "dist", "release")
	for range 2 {
		if err := whole(out, fill); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dir, "mine", "file"), "dear")
	if err := whole(filepath.Join(dir, "mine"), fill); err == nil || !strings.Contains(err.Error(), "is no release") {
		t.Errorf("a folder with files: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "mine", "file")); err != nil {
		t.Error(err)
	}
	if err := whole(out, func(string) error { return os.ErrInvalid }); err == nil {
		t.Error("no error")
	}
	left, err := filepath.Glob(filepath.Join(dir, "dist", "*"))
	if err != nil || len(left) != 1 || left[0] != out {
		t.Errorf("left are %v, %v", left, err)
	}
}
