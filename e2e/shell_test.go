//go:build e2e

package e2e

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// testShell opens shells on a terminal, as a person does: they say where one is and what is there, and the tools that pages
// name are the real ones.
func testShell(t *testing.T, name string) {
	for place, want := range map[string][]string{
		"cni":    {"pod default/cni on node " + name + "-", ": here are ip, ss, ping, arping, tcpdump, curl", "default/cni# "},
		"worker": {"node " + name + "-worker: here are ip, ", "root@" + name + "-worker:"},
	} {
		printed := onTerminal(t, "ip -V; ping -V; echo $((40 + 2)) tries\nexit\n", "shell", place, "--name", name)
		for _, words := range append(want, "iproute2", "ping from iputils", "42 tries") {
			if !strings.Contains(printed, words) {
				t.Errorf("the shell of %s does not print %q:\n%s", place, words, printed)
			}
		}
	}
}

// onTerminal runs lab on a terminal of its own, types into it and returns what is seen there.
func onTerminal(t *testing.T, typed string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "script", "-qec", labBin+" "+strings.Join(args, " "), "/dev/null")
	cmd.Stdin = strings.NewReader(typed)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("lab %s on a terminal: %v", strings.Join(args, " "), err)
	}
	return string(out)
}
