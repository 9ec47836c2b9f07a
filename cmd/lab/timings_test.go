package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/labs"
	"wirelab.dev/wirelab/verify"
)

func readTimings(t *testing.T, file string) timings {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got timings
	if err := json.Unmarshal(content, &got); err != nil {
		t.Fatalf("%v in %s", err, content)
	}
	return got
}

func TestBudgets(t *testing.T) {
	steps := []labs.StepResult{{Name: "cluster", State: labs.StepDone, Duration: 20 * time.Second}, {Name: "verify", State: labs.StepDone, Duration: 31 * time.Second}}
	report := &verify.Report{Lab: "x", Results: []verify.Result{{Name: "dns/service", Status: verify.Pass, Duration: 1500 * time.Millisecond}}}
	failed := claimError{errors.New("a check failed")}
	for name, tt := range map[string]struct {
		budgets string
		ended   error
		say     string
		code    int
	}{
		"none":                        {"", nil, "", exitFine},
		"kept":                        {"up=61s cluster=20s verify=31s", nil, "", exitFine},
		"one exceeded":                {"up=61s verify=30s", nil, "lab x: verify took 31.0s, more than its budget of 30s", exitClaim},
		"two exceeded":                {"up=59s verify=30s", nil, "lab x: up took 60.0s, more than its budget of 59s; verify took 31.0s, more than its budget of 30s", exitClaim},
		"a step that has not begun":   {"ready=1s", nil, "", exitFine},
		"beside a check that failed":  {"verify=30s", failed, "lab x: verify took 31.0s, more than its budget of 30s", exitClaim},
		"where the lab was not made":  {"up=1s verify=30s", errors.New("no Docker"), "", exitFine},
		"where the request was wrong": {"up=1s", usageError{errors.New("no such profile")}, "", exitFine},
	} {
		t.Run(name, func(t *testing.T) {
			c := &clock{command: "up", file: filepath.Join(t.TempDir(), "timings.json"), began: time.Now().Add(-time.Minute)}
			c.budgets.names = append([]string{"up"}, labs.StepNames()...)
			for _, b := range strings.Fields(tt.budgets) {
				if err := c.budgets.Set(b); err != nil {
					t.Fatal(err)
				}
			}
			err := c.stop("x", steps, report, tt.ended)
			if err == nil && tt.say != "" || err != nil && err.Error() != tt.say || exitCode(err) != tt.code {
				t.Errorf("exit %d, %v; want %d, %q", exitCode(err), err, tt.code, tt.say)
			}
			got := readTimings(t, c.file)
			if got.Command != "up" || got.Lab != "x" || got.Seconds < 60 || got.Seconds > 61 || len(got.Steps) != 2 || got.Steps[1] != (timed{"verify", "done", 31}) ||
				len(got.Checks) != 1 || got.Checks[0] != (timed{"dns/service", "pass", 1.5}) {
				t.Errorf("written: %+v", got)
			}
			want := len(strings.Fields(tt.budgets))
			if strings.HasPrefix(tt.budgets, "ready") {
				want = 0
			}
			if len(got.Budgets) != want {
				t.Errorf("budgets written: %+v, want %d", got.Budgets, want)
			}
		})
	}
}

// TestTimingsOfWhatFails: they tell how far it came.
func TestTimingsOfWhatFails(t *testing.T) {
	withoutDocker(t)
	t.Setenv("TMPDIR", t.TempDir())
	file := filepath.Join(t.TempDir(), "timings.json")
	for _, args := range []string{"up kubeproxy --name x", "verify x"} {
		_, errOut, code := call(t, append(strings.Fields(args), "--timings", file)...)
		if got := readTimings(t, file); code != exitFailed || got.Lab != "x" || !strings.HasPrefix(args, got.Command) || got.Command == "up" && len(got.Steps) == 0 {
			t.Errorf("lab %s: exit %d, %+v\n%s", args, code, got, errOut)
		}
	}
	if _, errOut, code := call(t, "up", "kubeproxy", "--name", "x", "--timings", filepath.Join(file, "below")); code != exitFailed || !strings.Contains(errOut, "cannot be written") || strings.Contains(errOut, "doctor") {
		t.Errorf("a file that cannot be written: exit %d: %s", code, errOut)
	}
}
