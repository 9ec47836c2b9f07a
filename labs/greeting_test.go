package labs

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"wirelab.dev/wirelab/internal/cluster"
)

// TestGreeting runs what greets a person in a real shell: it names the tools that are there, and the shell
// behind it has the prompt.
func TestGreeting(t *testing.T) {
	bin := t.TempDir()
	for _, tool := range []string{"tcpdump", "ip"} {
		if err := os.WriteFile(filepath.Join(bin, tool), []byte("#!/bin/sh\n"), 0o755); err != nil { //nolint:gosec // it is run
			t.Fatal(err)
		}
	}
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	argv := podShell("default/cni", "x-worker", true)
	cmd := exec.CommandContext(t.Context(), sh, argv[1:]...)
	if err := os.Symlink(sh, filepath.Join(bin, "sh")); err != nil {
		t.Fatal(err)
	}
	cmd.Env = []string{"PATH=" + bin}
	cmd.Stdin = strings.NewReader("echo prompt \"$PS1\"\nexit 3\n")
	out, err := cmd.CombinedOutput()
	const want = "pod default/cni on node x-worker: here are ip, tcpdump; exit leaves it\nprompt default/cni# \n"
	if string(out) != want || cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("it prints %q and ends with %v, want %q and exit status 3", out, err, want)
	}
}

func TestShellsThatNobodyLooksAt(t *testing.T) {
	node := cluster.Node{Name: "x-worker", Role: cluster.RoleWorker}
	if got := nodeShell(node, false); !slices.Equal(got, []string{"bash", "-l"}) {
		t.Errorf("on a node %q", got)
	}
	if got := podShell("default/cni", "x-worker", false); !slices.Equal(got, []string{"sh"}) {
		t.Errorf("in a pod %q", got)
	}
	if got := nodeShell(node, true); slices.Contains(got, "kubectl") {
		t.Errorf("a worker is said to have the cluster's kubectl: %q", got)
	}
	node.Role = cluster.RoleControlPlane
	if got := nodeShell(node, true); !slices.Contains(got, "kubectl") {
		t.Errorf("on a control plane %q", got)
	}
}
