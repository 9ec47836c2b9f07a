package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wirelab.dev/wirelab/internal/bugreport"
)

// page is the page of a report in a folder, empty where there is none.
func page(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, bugreport.PageFile))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

// TestReportWithoutDocker: what can be had is written, also by commands that failed, and each ends as it would have.
func TestReportWithoutDocker(t *testing.T) {
	withoutDocker(t)
	t.Setenv("TMPDIR", t.TempDir())
	for _, tt := range []struct {
		args string
		says []string // of the page
	}{
		{"report x -o", []string{"docker is not running", "lab command", "What is not here"}},
		{"up ebpf --name x --report", []string{"docker is not running", "step doctor", "name: ebpf"}},
		{"up ebpf --name x -o json --report", []string{"docker is not running", "step doctor", "name: ebpf"}},
		{"verify x --only dns --report", []string{"docker is not running", "lab x"}},
	} {
		dir := filepath.Join(t.TempDir(), "report")
		_, errOut, code := call(t, append(strings.Fields(tt.args), dir)...)
		if code != exitFailed || !strings.Contains(errOut, "docker is not running") {
			t.Errorf("lab %s: exit %d: %s", tt.args, code, errOut)
		}
		got := page(t, dir)
		for _, want := range tt.says {
			if !strings.Contains(got, want) {
				t.Errorf("lab %s: the page has no %q:\n%.2000s", tt.args, want, got)
			}
		}
		for line := range strings.Lines(errOut) {
			if strings.Contains(tt.args, "json") && !strings.HasPrefix(line, "{") {
				t.Errorf("lab %s: no event: %s", tt.args, line)
			}
		}
	}
}

// TestNoReport: none is written of a request that is wrong, and a folder that cannot be written to is known before anything
// is made.
func TestNoReport(t *testing.T) {
	withoutDocker(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args, say string
		code      int
	}{
		{"report x -o " + file, file, exitFailed},
		{"up kubeproxy --report " + file, "a report cannot be written", exitFailed},
		{"verify x --report " + file, "a report cannot be written", exitFailed},
		{"verify x --only nonsense --report " + dir, "nonsense", exitUsage},
		{"up kubeproxy --set network.mtuu=1 --report " + dir, "network.mtu", exitUsage},
	} {
		_, errOut, code := call(t, strings.Fields(tt.args)...)
		if code != tt.code || !strings.Contains(errOut, tt.say) || strings.Contains(errOut, "doctor") {
			t.Errorf("lab %s: exit %d: %s", tt.args, code, errOut)
		}
	}
	if page(t, dir) != "" {
		t.Error("there is a report of a request that is wrong")
	}
}

func TestFlowsOfAReport(t *testing.T) {
	text, err := flowsText([]byte(`{"start":{"node":"a"}}
{"flow":{"time":"2026-01-02T15:04:05Z","node":"a","verdict":"dropped","reason":"no route","at":"to-network","protocol":"tcp","source":{"addr":"10.0.0.1","port":1},"destination":{"addr":"10.0.0.2","port":2}}}
{"upTo":"2026-01-02T15:04:06Z"}
`))
	if err != nil || !strings.Contains(text, "VERDICT") || strings.Count(text, "dropped") != 1 || strings.Count(text, "\n") != 2 {
		t.Errorf("%v:\n%s", err, text)
	}
	if _, err := flowsText([]byte("nonsense\n")); err == nil {
		t.Error("nonsense is flows")
	}
}
