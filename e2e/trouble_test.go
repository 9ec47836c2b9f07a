//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBadInput gives lab what people give it by mistake: one clear sentence, the exit status of a bad
// request or of a failure, and nothing made.
func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const head = "apiVersion: wirelab.dev/v1alpha1\nkind: Profile\nmetadata:\n  name: e2e-bad\nextends: kubeproxy\n"
	tests := []struct {
		name string
		env  []string
		args []string
		code int
		says []string
	}{
		{"unknown profile", nil, []string{"up", "kubeprxy"}, 2, []string{"kubeprxy", "kubeproxy"}},
		{"no profile", nil, []string{"up"}, 2, nil},
		{"misspelt key", nil, []string{"up", file("key.yaml", head+"network:\n  dubug:\n    enabled: true\n")}, 2, []string{"key.yaml:7", "network.dubug", "debug"}},
		{"misspelt deep key", nil, []string{"up", file("deep.yaml", head+"network:\n  debug:\n    enabeld: true\n")}, 2, []string{"deep.yaml:8", "network.debug.enabeld", "enabled"}},
		{"misspelt --set", nil, []string{"up", "kubeproxy", "--set", "network.mtuu=1400"}, 2, []string{"network.mtuu", "mtu"}},
		{"misspelt variable", []string{"WIRELAB_NETWORK_MTUU=1400"}, []string{"up", "kubeproxy"}, 2, []string{"WIRELAB_NETWORK_MTUU", "WIRELAB_NETWORK_MTU"}},
		{"masquerade without native CIDR", nil, []string{"up", "kubeproxy", "--set", "network.ipv4NativeRoutingCIDR="}, 2, []string{"ipv4NativeRoutingCIDR"}},
		{"bad CIDR", nil, []string{"up", "kubeproxy", "--set", "cluster.podSubnet=10.0.0.0/33"}, 2, []string{"cluster.podSubnet", "10.0.0.0/33"}},
		{"overlapping CIDRs", nil, []string{"up", "kubeproxy", "--set", "cluster.serviceSubnet=10.0.0.0/16", "--set", "cluster.podSubnet=10.0.0.0/16"}, 2, []string{"cluster.serviceSubnet", "pod subnet", "overlap"}},
		{"kube-proxy and its replacement", nil, []string{"up", "kubeproxy", "--set", "network.kubeProxyReplacement=true"}, 2, []string{"network.kubeProxyReplacement", "cluster.kubeProxyMode"}},
		{"nobody to serve Services", nil, []string{"up", "kubeproxy-replacement", "--set", "network.kubeProxyReplacement=disabled"}, 2, []string{"network.kubeProxyReplacement", "nothing would serve Services"}},
		{"half a replacement", []string{"WIRELAB_NETWORK_KUBEPROXYREPLACEMENT=partial"}, []string{"up", "kubeproxy-replacement"}, 2, []string{"WIRELAB_NETWORK_KUBEPROXYREPLACEMENT", "some Services to kube-proxy"}},
		{"two mistakes at once", nil, []string{"up", "kubeproxy", "--set", "network.mtu=big", "--set", "demo.nodePort=80"}, 2, []string{"network.mtu", "demo.nodePort"}},
		{"bad name", nil, []string{"up", "kubeproxy", "--name", "Not A Name"}, 2, []string{"--name"}},
		{"no such lab", nil, []string{"status", "e2e-nowhere"}, 2, []string{"e2e-nowhere"}},
		{"no such check", nil, []string{"verify", "--only", "nosuchcheck"}, 2, []string{"nosuchcheck"}},
		{"no Docker", []string{"DOCKER_HOST=unix://" + dir + "/docker.sock"}, []string{"up", "kubeproxy", "--name", "e2e-nodocker"}, 1, []string{"Docker"}},
		{"no such command", nil, []string{"upp"}, 2, []string{"upp"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := labEnv(t, tt.env, tt.args...)
			if o.code != tt.code {
				t.Errorf("exit status %d, want %d", o.code, tt.code)
			}
			for _, want := range tt.says {
				if !strings.Contains(o.stderr, want) {
					t.Errorf("stderr does not mention %q", want)
				}
			}
			if o.stdout != "" {
				t.Errorf("stdout of a failed command: %s", o.stdout)
			}
			if t.Failed() {
				t.Logf("lab %s: %s", strings.Join(tt.args, " "), o.stderr)
			}
		})
	}
	if left, err := command("docker", "ps", "-aq", "--filter", "network="+network); err != nil || left != "" {
		t.Errorf("bad input made containers %q (%v)", left, err)
	}
	mustLab(t, "down", "e2e-nowhere")
}

// TestNameTaken leaves a kind cluster that lab did not make alone, whatever it is asked.
func TestNameTaken(t *testing.T) {
	const name = "e2e-foreign"
	var image struct{ Image string }
	labJSON(t, &image, "image")
	id, err := command("docker", "create", "--network", network, "--label", "io.x-k8s.kind.cluster="+name,
		"--label", "io.x-k8s.kind.role=control-plane", "--name", name+"-control-plane", image.Image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := command("docker", "rm", "-f", "-v", id); err != nil {
			t.Error(err)
		}
	})
	for _, args := range [][]string{{"up", "kubeproxy", "--name", name}, {"down", name}} {
		o := lab(t, args...)
		if o.code != 1 || !strings.Contains(o.stderr, name) {
			t.Errorf("lab %s: exit status %d: %s", strings.Join(args, " "), o.code, o.stderr)
		}
	}
	if got := containers(t, name); len(got) != 1 {
		t.Errorf("the foreign cluster has containers %v", got)
	}
}

// TestInterrupted interrupts the making of a lab, then kills it, then lets it through: an interrupt
// leaves nothing, and after a kill the same command starts clean. A second name is made meanwhile, to
// see that labs leave each other alone.
func TestInterrupted(t *testing.T) {
	const name = "e2e-interrupted"
	own := filepath.Join(t.TempDir(), "kubeconfig")
	small := []string{"up", "kubeproxy", "--name", name, "--set", "cluster.workers=0", "--no-verify", "--kubeconfig", own}
	t.Cleanup(func() {
		mustLab(t, "down", name)
		if left := contextsIn(t, own); left != "" {
			t.Errorf("lab down left contexts %s in the lab's own kubeconfig", left)
		}
		if left := leftOf(t, name); len(left) > 0 {
			t.Errorf("lab down left %v", left)
		}
	})

	if code := signalled(t, name, syscall.SIGINT, small); code == 0 {
		t.Error("an interrupted lab up exits with status 0")
	}
	if left := leftOf(t, name); len(left) > 0 {
		t.Errorf("an interrupted lab up left %v", left)
	}
	signalled(t, name, syscall.SIGKILL, small)
	if left := containers(t, name); len(left) == 0 {
		t.Fatal("a killed lab up left nothing: the kill came too late or too early to show anything")
	}
	var r upResult
	labJSON(t, &r, small...)
	if !r.Created {
		t.Error("lab up took a half-made cluster for a lab")
	}
	if own, users := contextsIn(t, own), kubeconfigContexts(t); own != r.Context || strings.Contains(users, r.Context) {
		t.Errorf("the lab's own kubeconfig has contexts %q, and the user's %q", own, users)
	}
	if ready := kubectl(t, name, "get", "nodes", "-o", `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`); ready != "True" {
		t.Errorf("the node's Ready condition is %q", ready)
	}
}

// signalled runs lab until the first container of the lab is there, sends the signal, and returns the
// exit status, -1 when the signal ended it.
func signalled(t *testing.T, name string, sig syscall.Signal, args []string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd, _, stderr := labCommand(ctx, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, "the first container of "+name, func() string {
		if len(containers(t, name)) == 0 {
			return "there is none"
		}
		return ""
	})
	if err := cmd.Process.Signal(sig); err != nil {
		t.Fatalf("signal lab up: %v: %s", err, stderr)
	}
	_ = cmd.Wait() // its exit status is what this is about
	return cmd.ProcessState.ExitCode()
}
