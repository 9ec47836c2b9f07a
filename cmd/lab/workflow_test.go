package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// job is the job of a generated workflow for GitHub Actions.
type job struct {
	Strategy struct{ Matrix struct{ Include []row } }
	Steps    []struct {
		Name, Uses, If, Run string
		With                struct{ Name, Path string }
	}
}

// leg is what became of one leg of a matrix.
type leg struct {
	*runner
	failed string // the step that made it red; empty where none did
	status int
	kept   []string // what was there to be kept as an artifact
	log    string
}

// runLeg runs the steps of a job for a row as a runner does: each script in a bash -e of its own with nothing but what runners have,
// none after one that failed but those that always run, and what a step adds to environment and PATH is there for the next.
// Other people's actions are not run: a checkout is an empty workspace with a Makefile that makes the stand-in for lab.
func runLeg(t *testing.T, j job, r row, status string) leg {
	t.Helper()
	l := leg{runner: newRunner(t)}
	l.env["FAKE_STATUS"] = status
	makefile := "build:\n\tmkdir -p bin && printf '%s' \"$$FAKE\" >bin/lab && chmod +x bin/lab\n"
	l.env["FAKE"] = fakeLab
	matrix := strings.NewReplacer("${{ matrix.args }}", r.Args, "${{ matrix.name }}", r.Name)
	for _, s := range j.Steps {
		if l.failed != "" && s.If != "always()" {
			continue
		}
		switch {
		case strings.HasPrefix(s.Uses, "actions/checkout@"):
			if err := os.WriteFile(l.path("workspace/Makefile"), []byte(makefile), 0o600); err != nil {
				t.Fatal(err)
			}
		case strings.HasPrefix(s.Uses, "actions/upload-artifact@"):
			for _, path := range strings.Fields(s.With.Path) {
				if _, err := os.Stat(filepath.Join(l.path("workspace"), path)); err == nil {
					l.kept = append(l.kept, path)
				}
			}
		case s.Uses != "":
			t.Fatalf("the step %q uses %s, which this test does not know", s.Name, s.Uses)
		default:
			if err := os.WriteFile(l.path("script.sh"), []byte(matrix.Replace(s.Run)), 0o600); err != nil {
				t.Fatal(err)
			}
			log, status := l.step(t, "bash", "-e", l.path("script.sh"))
			l.log += log
			if status != 0 && l.failed == "" {
				l.failed, l.status = s.Name, status
			}
		}
		for line := range strings.Lines(l.text(t, l.env["GITHUB_ENV"])) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
				l.env[name] = value
			}
		}
		for line := range strings.Lines(l.text(t, l.env["GITHUB_PATH"])) {
			l.env["PATH"] = strings.TrimSpace(line) + ":" + l.env["PATH"]
		}
	}
	return l
}

// TestWorkflowSteps runs the steps of a generated workflow. A claim that fails makes the leg red with the status that says so, and
// the report is there to be kept; whatever happens the lab is taken down.
func TestWorkflowSteps(t *testing.T) {
	out, errOut, code := call(t, "matrix", "ebpf", "--set", "verify.skip=dns,paths/*", "--set", "cluster.workers=1", "--set", "cluster.workers=2", "--workflow", "github")
	var w struct{ Jobs struct{ Lab job } }
	if err := yaml.Unmarshal([]byte(out), &w); code != exitFine || err != nil || len(w.Jobs.Lab.Strategy.Matrix.Include) != 2 {
		t.Fatalf("exit %d, %v: %s%s", code, err, errOut, out)
	}
	const making, calls = "Make the lab and verify it", "up ebpf --name ebpf-2 --set verify.skip=dns,paths/* --set cluster.workers=2 --kubeconfig TEMP/kubeconfig " +
		"--output-file results.xml --output-file summary.md --timings timings.json --report report\ndown ebpf-2\n"
	for _, tt := range []struct{ status, failed, kept string }{
		{"0", "", "results.xml summary.md timings.json"},
		{"1", making, "results.xml summary.md timings.json report"},
		{"3", making, "results.xml summary.md timings.json report"},
	} {
		l := runLeg(t, w.Jobs.Lab, w.Jobs.Lab.Strategy.Matrix.Include[1], tt.status)
		if l.failed != tt.failed || l.failed != "" && tt.status != string(rune('0'+l.status)) {
			t.Errorf("lab up ends with %s: the step %q fails with %d, want %q:\n%s", tt.status, l.failed, l.status, tt.failed, l.log)
		}
		if kept := strings.Join(l.kept, " "); kept != tt.kept {
			t.Errorf("lab up ends with %s: kept are %s, want %s", tt.status, kept, tt.kept)
		}
		if got := strings.ReplaceAll(l.text(t, l.env["FAKE_CALLS"]), l.env["RUNNER_TEMP"], "TEMP"); got != calls {
			t.Errorf("lab was called\n%swant\n%s", got, calls)
		}
		if got := l.text(t, l.env["GITHUB_STEP_SUMMARY"]); got != "results for md\n" {
			t.Errorf("summary %q", got)
		}
		if made := l.env["KUBECONFIG"] != ""; made != (tt.status == "0") {
			t.Errorf("lab up ends with %s, and later steps have the kubeconfig %q", tt.status, l.env["KUBECONFIG"])
		}
	}
}
