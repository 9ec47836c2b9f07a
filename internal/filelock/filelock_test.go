package filelock

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, second := open(t, path), open(t, path)
	if err := Try(first); err != nil {
		t.Fatal(err)
	}
	if err := Try(second); !errors.Is(err, ErrHeld) {
		t.Errorf("the second got %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Try(second); err != nil {
		t.Errorf("a file that is closed is locked: %v", err)
	}
}

// TestFolder: a folder is locked as a file is.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	var files []*os.File
	for range 2 {
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		files = append(files, f)
	}
	if err := Try(files[0]); err != nil {
		t.Fatal(err)
	}
	if err := Try(files[1]); !errors.Is(err, ErrHeld) {
		t.Errorf("got %v", err)
	}
}

func TestIsAt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f := open(t, path)
	if !IsAt(f, path) {
		t.Error("it is not where it was made")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if IsAt(f, path) {
		t.Error("it is where no file is")
	}
	open(t, path)
	if IsAt(f, path) {
		t.Error("it is taken for another of its name")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Try(f); err == nil || errors.Is(err, ErrHeld) {
		t.Errorf("a closed file: %v", err)
	}
}
