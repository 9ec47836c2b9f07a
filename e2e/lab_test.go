//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

// outcome is how a run of the lab binary ended.
type outcome struct {
	code           int
	stdout, stderr string
	took           time.Duration
}

// lab runs the binary with args; it fails the test only when the binary cannot be run at all.
func lab(t *testing.T, args ...string) outcome {
	t.Helper()
	return labEnv(t, nil, args...)
}

// labEnv runs the binary with environment variables added to those of the test.
func labEnv(t *testing.T, env []string, args ...string) outcome {
	t.Helper()
	// A test's cleanup runs lab too, when the test's own context has ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Minute)
	defer cancel()
	cmd, stdout, stderr := labCommand(ctx, args...)
	cmd.Env = append(os.Environ(), env...)
	began := time.Now()
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatalf("run lab %s: %v", strings.Join(args, " "), err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String(), time.Since(began)}
}

func labCommand(ctx context.Context, args ...string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	cmd = exec.CommandContext(ctx, labBin, args...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

// mustLab runs the binary and ends the test unless it succeeds.
func mustLab(t *testing.T, args ...string) outcome {
	t.Helper()
	o := lab(t, args...)
	if o.code != 0 {
		t.Fatalf("lab %s: exit status %d\n%sstderr: %s\nstdout: %s", strings.Join(args, " "), o.code, notPassed(o.stdout), o.stderr, o.stdout)
	}
	return o
}

// notPassed lists the checks of an answer with a report that have not passed, a line each: a CI system may cut the rest off.
func notPassed(answer string) string {
	var a struct {
		Report  struct{ Results []checked } // of lab up and lab install
		Results []checked                   // of lab verify
	}
	var lines strings.Builder
	if json.Unmarshal([]byte(answer), &a) == nil {
		for _, c := range slices.Concat(a.Report.Results, a.Results) {
			if c.Status != "pass" {
				fmt.Fprintf(&lines, "%s: %s: %s\n", c.Name, c.Status, c.why())
			}
		}
	}
	return lines.String()
}

// labJSON runs the binary with -o json and decodes its standard output into v.
func labJSON(t *testing.T, v any, args ...string) outcome {
	t.Helper()
	o := mustLab(t, append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(o.stdout), v); err != nil {
		t.Fatalf("lab %s -o json: %v in %s", strings.Join(args, " "), err, o.stdout)
	}
	return o
}

// onNode runs a command in a node's container and ends the test unless it succeeds.
func onNode(t *testing.T, node string, args ...string) string {
	t.Helper()
	out, err := command("docker", append([]string{"exec", node}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// kubectl runs the control plane's own kubectl: none is needed on this machine.
func kubectl(t *testing.T, lab string, args ...string) string {
	t.Helper()
	return onNode(t, lab+"-control-plane", append([]string{"kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"}, args...)...)
}

// apply feeds a manifest to kubectl.
func apply(t *testing.T, lab, manifest string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", "exec", "-i", lab+"-control-plane",
		"kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(manifest)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("kubectl apply: %v: %s", err, out)
	}
}

// containers lists the containers of a lab, running or not, sorted as Docker does.
func containers(t *testing.T, lab string) []string {
	t.Helper()
	out, err := command("docker", "ps", "-a", "--filter", "label=io.x-k8s.kind.cluster="+lab, "--format", "{{.Names}}")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(out)
}

// leftOf lists what Docker has of a lab that is down: its containers and its images, those without a tag too.
func leftOf(t *testing.T, lab string) []string {
	t.Helper()
	out, err := command("docker", "images", "-a", "--filter", "label=dev.wirelab.lab="+lab, "--format", "image {{.ID}}")
	if err != nil {
		t.Fatal(err)
	}
	return append(containers(t, lab), lines(out)...)
}

// eventually polls until ok returns an empty string, and fails the test with what it said last.
func eventually(t *testing.T, within time.Duration, what string, ok func() string) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		missing := ok()
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %s", what, within, missing)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// kubeconfigContexts names the contexts of the kubeconfig these tests gave to lab.
func kubeconfigContexts(t *testing.T) string {
	t.Helper()
	return contextsIn(t, os.Getenv("KUBECONFIG"))
}

// contextsIn names the contexts of a kubeconfig, which need not be there.
func contextsIn(t *testing.T, file string) string {
	t.Helper()
	config, err := clientcmd.LoadFromFile(file)
	if os.IsNotExist(err) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(slices.Sorted(maps.Keys(config.Contexts)), " ")
}
