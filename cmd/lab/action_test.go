package main

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// fakeLab stands in for lab in the steps of workflows: it notes how it is called, writes what lab up would, and ends as
// FAKE_STATUS says.
const fakeLab = `#!/bin/bash
printf '%s\n' "$*" >>"$FAKE_CALLS"
case $1 in up) ;; *) exit "${FAKE_OTHER:-0}" ;; esac
status=${FAKE_STATUS:-0}
while [ $# -gt 0 ]; do
	case $1 in
	--kubeconfig) [ "$status" = 2 ] || echo 'token: s3cret' >"$2" ;;
	--output-file) [ "$status" = 2 ] || echo "results for ${2##*.}" >"$2" ;;
	--timings) echo '{}' >"$2" ;;
	--report) if [ "$status" = 1 ] || [ "$status" = 3 ]; then mkdir -p "$2"; echo page >"$2/report.html"; fi ;;
	esac
	shift
done
echo '::warning::a pod says this' >&2
echo "lab: it ended with $status, 100%" >&2
echo 'below it more' >&2
exit "$status"
`

// runner is what a step of a job has of GitHub's runner: its folders and files.
type runner struct {
	dir string
	env map[string]string
}

func newRunner(t *testing.T) *runner {
	t.Helper()
	r := &runner{t.TempDir(), map[string]string{"HOME": "/nonexistent", "LANG": "C.UTF-8", "CI": "true", "GITHUB_ACTIONS": "true"}}
	for _, dir := range []string{"temp", "workspace", "bin"} {
		if err := os.Mkdir(r.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r.env["RUNNER_TEMP"], r.env["GITHUB_WORKSPACE"], r.env["FAKE_CALLS"] = r.path("temp"), r.path("workspace"), r.path("calls")
	for _, file := range []string{"GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_STEP_SUMMARY", "GITHUB_ENV", "GITHUB_PATH"} {
		r.env[file] = r.path(file)
		if err := os.WriteFile(r.path(file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.env["PATH"] = r.path("bin") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	return r
}

func (r *runner) path(name string) string { return filepath.Join(r.dir, name) }

func (r *runner) text(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

// step runs a command in the workspace with what a runner gives, and nothing of the test's own environment.
func (r *runner) step(t *testing.T, name string, args ...string) (log string, status int) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: make deps installs it", err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir = r.path("workspace")
	for k, v := range r.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

var noted = regexp.MustCompile(`(?m)^(\w+)<<(\S+)\n((?s:.*?))\n(\S+)$`)

// notes are what a step has given to the runner by one of its files.
func (r *runner) notes(t *testing.T, file string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, m := range noted.FindAllStringSubmatch(r.text(t, r.env[file]), -1) {
		if m[2] != m[4] {
			t.Errorf("%s of %s is not ended: %q", m[1], file, m[0])
		}
		out[m[1]] = m[3]
	}
	return out
}

// action runs the action with inputs, and its post step, as a runner does: inputs and state are environment variables.
func (r *runner) action(t *testing.T, inputs map[string]string) (log string, status int, outputs map[string]string, post int) {
	t.Helper()
	var defaults struct {
		Inputs map[string]struct{ Default string }
		Runs   struct{ Using, Main, Post string }
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(r.text(t, filepath.Join(root, "action.yml"))), &defaults); err != nil {
		t.Fatal(err)
	}
	for name, in := range defaults.Inputs {
		r.env["INPUT_"+strings.ToUpper(name)] = in.Default
	}
	for name, value := range inputs {
		if _, ok := defaults.Inputs[name]; !ok {
			t.Fatalf("the action has no input %s", name)
		}
		r.env["INPUT_"+strings.ToUpper(name)] = value
	}
	log, status = r.step(t, "node", filepath.Join(root, defaults.Runs.Main))
	for name, value := range r.notes(t, "GITHUB_STATE") {
		r.env["STATE_"+name] = value
	}
	after, post := r.step(t, "node", filepath.Join(root, defaults.Runs.Post))
	return log + after, status, r.notes(t, "GITHUB_OUTPUT"), post
}

// withFake puts the stand-in where the action, and steps, find lab.
func (r *runner) withFake(t *testing.T, status string) *runner {
	t.Helper()
	r.env["FAKE_STATUS"] = status
	if err := os.WriteFile(r.path("bin/lab"), []byte(fakeLab), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	return r
}

// TestAction: inputs become a command line, what came out becomes outputs and a summary, and the lab is always taken down.
func TestAction(t *testing.T) {
	r := newRunner(t).withFake(t, "0")
	log, status, outputs, post := r.action(t, map[string]string{
		"profile": "ebpf", "name": "two", "set": "cluster.workers=1\n\n  verify.skip=dns,paths/*\n", "kubernetes": "v1.36.1", "budget": "up=3m", "bundle": "node.tar.zst",
	})
	if status != 0 || post != 0 {
		t.Fatalf("ends with %d, and %d in its post step:\n%s", status, post, log)
	}
	dir := filepath.Dir(outputs["kubeconfig"])
	want := "image load node.tar.zst\nup ebpf --name two --kubeconfig DIR/kubeconfig --timings DIR/timings.json --report DIR/report " +
		"--set cluster.image=kindest/node:v1.36.1 --set cluster.workers=1 --set verify.skip=dns,paths/* --budget up=3m " +
		"--output-file DIR/results.xml --output-file DIR/summary.md\ndown two\n"
	if got := strings.ReplaceAll(r.text(t, r.env["FAKE_CALLS"]), dir, "DIR"); got != want {
		t.Errorf("lab was called\n%swant\n%s", got, want)
	}
	if !strings.HasPrefix(dir, r.env["RUNNER_TEMP"]) || outputs["context"] != "kind-two" || outputs["report"] != "" || outputs["results"] != filepath.Join(dir, "results.xml") {
		t.Errorf("outputs %v", outputs)
	}
	if got := r.text(t, r.env["GITHUB_STEP_SUMMARY"]); got != "results for md\n\n" {
		t.Errorf("summary %q", got)
	}
	if strings.Contains(log, "s3cret") {
		t.Errorf("the log has what is in the kubeconfig:\n%s", log)
	}
	// What lab prints gives the runner no commands.
	before, after, ok := strings.Cut(log, "\n::warning::a pod says this\n")
	begun := strings.LastIndex(before, "::stop-commands::")
	if !ok || begun < 0 {
		t.Fatalf("commands are not stopped before what lab prints:\n%s", log)
	}
	token, _, _ := strings.Cut(before[begun+len("::stop-commands::"):], "\n")
	if end := "\n::" + token + "::\n"; strings.Contains(before+"\n", end) || !strings.Contains(after, end) {
		t.Errorf("commands are stopped by %s, and then not until lab has ended:\n%s", token, log)
	}
}

func TestActionFails(t *testing.T) {
	for status, report := range map[string]bool{"1": true, "2": false, "3": true} {
		r := newRunner(t).withFake(t, status)
		log, got, outputs, post := r.action(t, map[string]string{"profile": "./profiles/mine.yaml"})
		if want := map[string]int{"1": 1, "2": 2, "3": 3}[status]; got != want || post != 0 {
			t.Errorf("lab up ends with %s, the action with %d and %d in its post step", status, got, post)
		}
		if !strings.Contains(log, "\n::error::it ended with "+status+", 100%25\n") {
			t.Errorf("no error of the job says why:\n%s", log)
		}
		if (outputs["report"] != "") != report || outputs["context"] != "kind-mine" || (outputs["kubeconfig"] != "") != report {
			t.Errorf("lab up ends with %s, outputs %v", status, outputs)
		}
		if calls := r.text(t, r.env["FAKE_CALLS"]); !strings.HasSuffix(calls, "\ndown mine\n") {
			t.Errorf("lab was called\n%s", calls)
		}
	}
	r := newRunner(t).withFake(t, "0")
	r.env["FAKE_OTHER"] = "1"
	if log, status, _, post := r.action(t, map[string]string{"profile": "ebpf", "verify": "false"}); status != 0 || post != 1 || !strings.Contains(log, "::error::lab ebpf is still there") {
		t.Errorf("lab down fails: %d and %d in the post step:\n%s", status, post, log)
	}
	if calls := r.text(t, r.env["FAKE_CALLS"]); !strings.Contains(calls, " --no-verify\n") || strings.Contains(calls, "--output-file") {
		t.Errorf("without checks, lab was called\n%s", calls)
	}
}

// TestActionRefuses: what cannot be done is said in a line, no lab is begun, and the post step has nothing to do.
func TestActionRefuses(t *testing.T) {
	for _, tt := range []struct {
		inputs  map[string]string
		path    string
		status  int
		say     string
		present bool
	}{
		{map[string]string{}, "", 2, "::error::the input profile is empty", true},
		{map[string]string{"profile": "ebpf", "verify": "no"}, "", 2, "::error::the input verify is no: it is true or false", true},
		{map[string]string{"profile": "ebpf", "lab": "./none"}, "", 2, "::error::the input lab is ./none: there is no such program", true},
		{map[string]string{"profile": "ebpf"}, "/nonexistent", 1, "::error::there is no lab in PATH, and no Go and make to build it with", false},
	} {
		r := newRunner(t)
		if tt.present {
			r.withFake(t, "0")
		}
		r.env["PATH"] = cmp.Or(tt.path, r.env["PATH"])
		log, status, outputs, post := r.action(t, tt.inputs)
		if status != tt.status || post != 0 || !strings.Contains(log, tt.say) || len(outputs) > 0 || r.text(t, r.env["FAKE_CALLS"]) != "" {
			t.Errorf("%v: ends with %d and %d, outputs %v:\n%s", tt.inputs, status, post, outputs, log)
		}
	}
}

// TestActionInWorkflow: a workflow that uses the action is one, with the inputs and outputs that the action has.
func TestActionInWorkflow(t *testing.T) {
	const workflow = `on: push
jobs:
  lab:
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@v4
      - uses: ./
        id: lab
        with:
          profile: ebpf
          set: |
            cluster.workers=1
          budget: up=3m
      - run: kubectl --kubeconfig "$KUBECONFIG" --context "$CONTEXT" get pods -A
        env:
          KUBECONFIG: ${{ steps.lab.outputs.kubeconfig }}
          CONTEXT: ${{ steps.lab.outputs.context }}
      - if: failure() && steps.lab.outputs.report
        uses: actions/upload-artifact@v4
        with:
          name: report
          path: ${{ steps.lab.outputs.report }}
`
	if said, err := lintInRepository(t, workflow); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	for right, wrong := range map[string]string{"profile: ebpf": "profil: ebpf", "steps.lab.outputs.report": "steps.lab.outputs.repot"} {
		broken := strings.ReplaceAll(workflow, right, wrong)
		if said, err := lintInRepository(t, broken); err == nil || !strings.Contains(said, strings.TrimPrefix(strings.TrimSuffix(wrong, ": ebpf"), "steps.lab.outputs.")) {
			t.Errorf("a workflow with %s is let pass: %v: %s", wrong, err, said)
		}
	}
}

// lintInRepository is what actionlint says of a workflow in a repository that has the action at its top, where it reads that, too.
func lintInRepository(t *testing.T, workflow string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	action, err := os.ReadFile("../../action.yml")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		".git/HEAD": nil, "action.yml": action, "action/main.js": nil, "action/post.js": nil, ".github/workflows/labs.yml": []byte(workflow),
	} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, content, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-n", "-modfile=hack/tools/go.mod", "actionlint")
	cmd.Dir = "../.."
	path, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), strings.TrimSpace(string(path)), "-no-color") //nolint:gosec // a tool of ours
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}
