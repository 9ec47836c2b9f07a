package main

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"wirelab.dev/wirelab/profiles"
)

func rowsOf(t *testing.T, args ...string) []row {
	t.Helper()
	out, errOut, code := call(t, append([]string{"matrix"}, args...)...)
	var m matrix
	if err := json.Unmarshal([]byte(out), &m); code != exitFine || err != nil || strings.Count(out, "\n") != 1 {
		t.Fatalf("lab matrix %q: exit %d, %v: %s%s", args, code, err, out, errOut)
	}
	return m.Include
}

func TestMatrix(t *testing.T) {
	t.Setenv("WIRELAB_NETWORK_MTUU", "1234") // which lab up would refuse
	all, err := profiles.List()
	if err != nil {
		t.Fatal(err)
	}
	if rows := rowsOf(t); len(rows) != len(all) || rows[0].Name != all[0].Name || rows[0].Args != all[0].Name+" --name "+all[0].Name || rows[0].Set == nil {
		t.Errorf("of the shipped profiles: %+v", rows)
	}
	rows := rowsOf(t, "ebpf", "vxlan", "--set", "network.mtu=1400", "--set", "cluster.workers=1", "--set", "cluster.workers=2", "--kubernetes", "v1.36.1")
	var titles []string
	for _, r := range rows {
		titles = append(titles, r.Name+": "+r.Title)
	}
	if want := []string{
		"ebpf-1: ebpf, network.mtu=1400, cluster.workers=1, v1.36.1", "ebpf-2: ebpf, network.mtu=1400, cluster.workers=2, v1.36.1",
		"vxlan-1: vxlan, network.mtu=1400, cluster.workers=1, v1.36.1", "vxlan-2: vxlan, network.mtu=1400, cluster.workers=2, v1.36.1",
	}; !slices.Equal(titles, want) {
		t.Errorf("rows %q, want %q", titles, want)
	}
	if got, want := rows[1].Args, "ebpf --name ebpf-2 --set network.mtu=1400 --set cluster.workers=2 --set cluster.image=kindest/node:v1.36.1"; got != want || rows[1].Kubernetes != "v1.36.1" {
		t.Errorf("lab up would be given %s, want %s", got, want)
	}
}

func TestMatrixRefuses(t *testing.T) {
	for _, tt := range []struct{ args, say string }{
		{"kubeproxi", "kubeproxi"},
		{"ebpf ./none.yaml", "none.yaml"},
		{"ebpf --set network.mtuu=1", "network.mtu"},
		{"ebpf --set network.mtu", "want key=value"},
		{"ebpf --set verify.skip=dsn", "picks none"},
		{"ebpf --kubernetes 1.37", "such as v1.37.0"},
		{"ebpf --kubernetes v1.37.0 --set cluster.image=a:b", "give one of them"},
		{"ebpf ebpf", "two rows make a lab called ebpf"},
		{"ebpf --workflow jenkins", "github, gitlab"},
	} {
		out, errOut, code := call(t, append([]string{"matrix"}, strings.Fields(tt.args)...)...)
		if code != exitUsage || !strings.Contains(errOut, tt.say) || strings.Count(errOut, "\n") != 1 || out != "" {
			t.Errorf("lab matrix %s: exit %d, want 2 and one line with %q:\n%s%s", tt.args, code, tt.say, out, errOut)
		}
	}
}

// TestMatrixWordsForAShell: what a setting has in it reaches lab up as it is.
func TestMatrixWordsForAShell(t *testing.T) {
	want := []string{"a=b,c", "it's", "$HOME `id` \"x\"", "*", ""}
	out, err := exec.CommandContext(t.Context(), "sh", "-c", `printf '%s\n' `+words(want)).Output()
	if err != nil || string(out) != strings.Join(want, "\n")+"\n" {
		t.Errorf("%v: a shell makes %q of %s", err, out, words(want))
	}
}

// actionlint is what it says of a workflow for GitHub Actions, with shellcheck of the scripts where that is there.
func actionlint(t *testing.T, workflow string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-modfile=hack/tools/go.mod", "actionlint", "-no-color", "-")
	cmd.Dir = "../.."
	cmd.Stdin = strings.NewReader(workflow)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestWorkflowForGitHub(t *testing.T) {
	out, errOut, code := call(t, "matrix", "ebpf", "vxlan", "--set", "verify.skip=dns,paths/*", "--kubernetes", "v1.36.1", "--kubernetes", "v1.37.0", "--workflow", "github")
	if code != exitFine {
		t.Fatalf("exit %d: %s", code, errOut)
	}
	if said, err := actionlint(t, out); err != nil {
		t.Errorf("%v: %s\n%s", err, said, out)
	}
	// That it would say something.
	if said, err := actionlint(t, strings.Replace(out, "runs-on: ubuntu-24.04", "runs_on: ubuntu-24.04", 1)); err == nil || !strings.Contains(said, "runs_on") {
		t.Errorf("a workflow that is wrong: %v: %s", err, said)
	}
	var w struct {
		Jobs struct {
			Lab struct {
				Strategy struct{ Matrix struct{ Include []row } }
			}
		}
	}
	if err := yaml.Unmarshal([]byte(out), &w); err != nil {
		t.Fatal(err)
	}
	rows := w.Jobs.Lab.Strategy.Matrix.Include
	if len(rows) != 4 || rows[1].Args != "ebpf --name ebpf-2 --set 'verify.skip=dns,paths/*' --set cluster.image=kindest/node:v1.37.0" {
		t.Errorf("rows %+v", rows)
	}
	if !strings.HasPrefix(out, "# Written by: lab matrix ebpf vxlan --set 'verify.skip=dns,paths/*' --kubernetes v1.36.1 --kubernetes v1.37.0 --workflow github\n") {
		t.Errorf("it does not say how to write it again: %.200s", out)
	}
}

func TestWorkflowForGitLab(t *testing.T) {
	out, errOut, code := call(t, "matrix", "ebpf", "--set", "cluster.workers=1", "--set", "cluster.workers=2", "--workflow", "gitlab")
	var w struct {
		Lab struct {
			Parallel struct{ Matrix []map[string]string }
			Script   []string
		}
	}
	if err := yaml.Unmarshal([]byte(out), &w); code != exitFine || err != nil {
		t.Fatalf("exit %d, %v: %s%s", code, err, errOut, out)
	}
	if m := w.Lab.Parallel.Matrix; len(m) != 2 || m[1]["LAB_NAME"] != "ebpf-2" || m[1]["LAB_ARGS"] != "ebpf --name ebpf-2 --set cluster.workers=2" {
		t.Errorf("rows %v", m)
	}
	if len(w.Lab.Script) != 2 || !strings.Contains(w.Lab.Script[1], `eval "bin/lab up $LAB_ARGS" --kubeconfig kubeconfig --output-file results.xml`) {
		t.Errorf("script %q", w.Lab.Script)
	}
}
