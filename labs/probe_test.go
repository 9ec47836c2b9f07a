package labs

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestOldNettoolsGo: a node keeps the version that is put there, and what others may be about to run.
func TestOldNettoolsGo(t *testing.T) {
	dir, name := t.TempDir(), path.Base(nettoolOnNode)
	for file, age := range map[string]time.Duration{
		name + "new.aside": 0, name + "old": 2 * time.Hour, name + "old.aside": 2 * time.Hour, name + "young": time.Minute, "another": 2 * time.Hour,
	} {
		at := filepath.Join(dir, file)
		if err := os.WriteFile(at, []byte("x"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(at, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("sh", "-c", replaceScript(filepath.Join(dir, name+"new.aside"), filepath.Join(dir, name+"new"))).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var left []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"another", name + "new", name + "young"}; !slices.Equal(left, want) {
		t.Errorf("there are %q, want %q", left, want)
	}
	if i, err := os.Stat(filepath.Join(dir, name+"new")); err != nil || i.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", i.Mode(), err)
	}
}
