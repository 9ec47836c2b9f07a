package labs

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestLock(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	unlock, err := lock("one")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock("one"); !errors.Is(err, ErrBusy) {
		t.Errorf("second lock of one lab: error = %v, want ErrBusy", err)
	}
	other, err := lock("two")
	if err != nil {
		t.Errorf("lock of another lab: %v", err)
	} else {
		other()
	}
	unlock()
	again, err := lock("one")
	if err != nil {
		t.Fatalf("lock after unlock: %v", err)
	}
	again()
	left, err := os.ReadDir(filepath.Join(os.TempDir(), "wirelab-"+strconv.Itoa(os.Getuid())))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
