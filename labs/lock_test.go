package labs

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"wirelab.dev/wirelab/profiles"
)

// holderVar makes the test binary a process that holds a lock until it is killed.
const holderVar = "LABS_TEST_HOLD_LOCK"

func TestMain(m *testing.M) {
	if name := os.Getenv(holderVar); name != "" {
		if _, err := lockOn("engine", name); err != nil {
			os.Exit(3)
		}
		_, _ = os.Stdout.WriteString("held\n")
		select {}
	}
	os.Exit(m.Run())
}

func TestLock(t *testing.T) {
	unlock, err := lockOn("engine", "one")
	if err != nil {
		t.Fatal(err)
	}
	// Where temporary files go and who one is make no difference: what two commands share is the engine.
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	if _, err := lockOn("engine", "one"); !errors.Is(err, ErrBusy) {
		t.Errorf("second lock of one lab: error = %v, want ErrBusy", err)
	}
	for _, other := range [][2]string{{"engine", "two"}, {"another engine", "one"}} {
		free, err := lockOn(other[0], other[1])
		if err != nil {
			t.Errorf("lock of %q: %v", other, err)
			continue
		}
		free()
	}
	unlock()
	again, err := lockOn("engine", "one")
	if err != nil {
		t.Fatalf("lock after unlock: %v", err)
	}
	again()
}

// TestLabsBootInTurn: who comes second waits, says so once, and hears of an interrupt.
func TestLabsBootInTurn(t *testing.T) {
	var said []string
	say := func(s string) { said = append(said, s) }
	first, err := awaitBoot(t.Context(), t.Name(), say)
	if err != nil || len(said) != 0 {
		t.Fatalf("said %q, %v", said, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*pollPause)
	defer cancel()
	if _, err := awaitBoot(ctx, t.Name(), say); !errors.Is(err, context.DeadlineExceeded) || len(said) != 1 {
		t.Errorf("while the first boots: said %q, %v", said, err)
	}
	time.AfterFunc(pollPause, first)
	second, err := awaitBoot(t.Context(), t.Name(), say)
	if err != nil || len(said) != 2 {
		t.Fatalf("when the first has booted: said %q, %v", said, err)
	}
	second()
	if err := profiles.CheckName(bootLock); err == nil {
		t.Error("a lab can have the lock's name")
	}
}

// TestLockOfTheDead: the lock of another process, of another user where root runs this, holds as long as it lives.
func TestLockOfTheDead(t *testing.T) {
	self, err := os.Open("/proc/self/exe") // open, so that a user who cannot reach the file can run it
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.CommandContext(t.Context(), "/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), holderVar+"=three")
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := lockOn("engine", "three"); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "process ") {
		t.Errorf("error = %v, want ErrBusy that says which process", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	unlock, err := lockOn("engine", "three")
	if err != nil {
		t.Fatalf("the owner is dead, and its lock is not free: %v", err)
	}
	unlock()
}
