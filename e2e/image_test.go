//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestImageByFile carries a node image by a file, as to a machine without a network.
func TestImageByFile(t *testing.T) {
	const tag = "wirelab-e2e/node:1"
	var found struct{ Image string }
	labJSON(t, &found, "image")
	if _, err := command("docker", "tag", found.Image, tag); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := command("docker", "rmi", tag); err != nil {
			t.Error(err)
		}
	})
	file := filepath.Join(t.TempDir(), "node.tar.zst")
	var saved, loaded struct{ Image, ID, SHA256, Note string }
	labJSON(t, &saved, "image", "save", file, "--set", "cluster.image="+tag)
	if _, err := command("docker", "rmi", tag); err != nil {
		t.Fatal(err)
	}
	labJSON(t, &loaded, "image", "load", file)
	if loaded != saved || saved.Image != tag || saved.ID == "" {
		t.Errorf("loaded %+v, want what was saved: %+v", loaded, saved)
	}
	if id, err := command("docker", "image", "inspect", "-f", "{{.Id}}", tag); err != nil || id != saved.ID {
		t.Errorf("docker has %s %s (%v), want %s", tag, id, err, saved.ID)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("x"), 1<<20); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	if o := lab(t, "image", "load", file); o.code != 1 || !strings.Contains(o.stderr, "copy both again") {
		t.Errorf("a damaged file: exit status %d: %s", o.code, o.stderr)
	}
}
