package labs

import (
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// TestLeash runs the leash's script here: it ends what has its mark, or its command line, and nothing else, and only when
// its input ends without a word.
func TestLeash(t *testing.T) {
	for _, tt := range []struct {
		name  string
		id    string // a part of every process's cgroup stands in for a container's ID
		word  string
		lives bool
	}{
		{"marked, lab is gone", "", "", false},
		{"marked, all is well", "", "done\n", true},
		{"by its command line, lab is gone", ":", "", false},
		{"by its command line, all is well", ":", "done\n", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := func(env string, argv ...string) *exec.Cmd {
				c := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
				c.Env = append(os.Environ(), env)
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
				return c
			}
			argv := []string{"sleep", "98." + time.Now().Format("150405000000000")}
			before := start(markVar+"=before", argv...) // the same command, of somebody else
			mark := "test" + time.Now().Format("150405000000000")
			leash := exec.CommandContext(t.Context(), "bash", append([]string{"-c", leashScript, "leash", mark, tt.id}, argv...)...)
			in, err := leash.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := leash.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond) // a tick of the clock that start times are told in
			if err := leash.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
				t.Fatal(err)
			}
			held := start(markVar+"="+mark, argv...)
			other := start(markVar+"="+mark+"x", "sleep", "97")
			if _, err := io.WriteString(in, tt.word); err != nil {
				t.Fatal(err)
			}
			if err := in.Close(); err != nil {
				t.Fatal(err)
			}
			if err := leash.Wait(); err != nil {
				t.Errorf("the leash ended with %v", err)
			}
			for what, p := range map[string]struct {
				c     *exec.Cmd
				lives bool
			}{"held": {held, tt.lives}, "other": {other, true}, "begun before": {before, true}} {
				if lives := running(p.c); lives != p.lives {
					t.Errorf("what was %s lives: %v, want %v", what, lives, p.lives)
				}
			}
		})
	}
}

// running tells whether a child has not ended, were it not waited for yet.
func running(c *exec.Cmd) bool {
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(c.Process.Pid, &status, syscall.WNOHANG, nil)
	return err == nil && pid == 0
}
