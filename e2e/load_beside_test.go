//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// besideLoad keeps the machine busy with 20 processes until the test ends, as a build in another terminal does. They are one
// session, which is what the kernel shares a machine out among where nobody has made groups.
func besideLoad(t *testing.T) {
	// They end on their own, too, should the test be killed.
	busy := exec.Command("timeout", "15m", "sh", "-c", "for i in $(seq 20); do while :; do :; done & done; wait")
	busy.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := busy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-busy.Process.Pid, syscall.SIGKILL) // all of the session
		_ = busy.Wait()                                      // killed
		if status, ok := busy.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			t.Errorf("the load has ended before the test: %v", busy.ProcessState)
		}
	})
	for runnable := 0; runnable < 20; time.Sleep(10 * time.Millisecond) { // which the test's limit ends
		text, err := os.ReadFile("/proc/loadavg")
		if err == nil {
			_, err = fmt.Sscanf(strings.Fields(string(text))[3], "%d/", &runnable)
		}
		if err != nil {
			t.Fatalf("read how many processes are runnable: %v", err)
		}
	}
}
