package labs

import (
	"errors"
	"path/filepath"
	"testing"
)

// TestLockOfAFile is about the locks of macOS, on whatever runs the test.
func TestLockOfAFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "locks")
	unlock, err := takeFile(dir, "engine/one")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := takeFile(dir, "engine/one"); !errors.Is(err, ErrBusy) {
		t.Errorf("the lock was given twice: %v", err)
	}
	other, err := takeFile(dir, "engine/two")
	if err != nil {
		t.Fatalf("another lock: %v", err)
	}
	other()
	unlock()
	again, err := takeFile(dir, "engine/one")
	if err != nil {
		t.Fatalf("the lock was given back, and is not to be had: %v", err)
	}
	again()
}
