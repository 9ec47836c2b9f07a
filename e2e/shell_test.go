//go:build e2e

package e2e

import (
	"context"
	"os"
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
	testShellLeavesInput(t, name)
}

// testShellLeavesInput: a command neither waits for more input than it reads, nor takes what is typed ahead for the shell that reads
// its output.
func testShellLeavesInput(t *testing.T, name string) {
	for _, place := range []string{"cni", "worker"} {
		more, end, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, labBin, "shell", place, "--name", name, "--", "echo", "done")
		cmd.Stdin = more
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != "done\n" {
			t.Errorf("a command in %s that reads nothing of an input that does not end prints %q, %v", place, out, err)
		}
		cancel()
		more.Close()
		end.Close()

		typed := "seen=$(" + labBin + " shell " + place + " --name " + name + " -- bash -c 'cat; echo done'); echo here\necho $seen and there\nexit\n"
		printed := typedInto(t, typed, "bash", "--norc")
		if !strings.Contains(printed, "done and there") {
			t.Errorf("what is typed behind a command in %s is not run:\n%s", place, printed)
		}
	}
}

// onTerminal runs lab on a terminal of its own, types into it and returns what is seen there.
func onTerminal(t *testing.T, typed string, args ...string) string {
	t.Helper()
	return typedInto(t, typed, append([]string{labBin}, args...)...)
}

// typedInto is onTerminal for any program.
func typedInto(t *testing.T, typed string, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "script", "-qec", strings.Join(argv, " "), "/dev/null")
	cmd.Stdin = strings.NewReader(typed)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s on a terminal: %v", strings.Join(argv, " "), err)
	}
	return string(out)
}
