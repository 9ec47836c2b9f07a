package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOutputFiles: each has the results in the format that its name ends with, also where nothing could be looked at.
func TestOutputFiles(t *testing.T) {
	withoutDocker(t)
	t.Setenv("TMPDIR", t.TempDir())
	for _, args := range []string{"verify x --only dns,demo", "up kubeproxy --name x"} {
		dir := t.TempDir()
		words := map[string]string{"a.xml": `<testsuite name="lab x"`, "b.json": `"status": "error"`, "c.md": " checks could not look\n", "d.txt": "ERROR"}
		line := strings.Fields(args)
		for name := range words {
			line = append(line, "--output-file", filepath.Join(dir, name))
		}
		if _, errOut, code := call(t, line...); code != exitFailed {
			t.Errorf("lab %s: exit %d: %s", args, code, errOut)
		}
		for name, want := range words {
			got, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || !strings.Contains(string(got), want) || !strings.Contains(string(got), "docker is not running") {
				t.Errorf("lab %s: %s has no %q and no reason: %v\n%s", args, name, want, err, got)
			}
		}
	}
}

// TestOutputFileThatCannotBe: it is known before anything is looked for.
func TestOutputFileThatCannotBe(t *testing.T) {
	withoutDocker(t)
	for _, args := range []string{"verify x", "up kubeproxy"} {
		file := filepath.Join(t.TempDir(), "none", "a.xml")
		out, errOut, code := call(t, append(strings.Fields(args), "--output-file", file)...)
		if code != exitFailed || !strings.Contains(errOut, file+" cannot be written") || strings.Contains(errOut, "docker") || out != "" {
			t.Errorf("lab %s: exit %d: %s%s", args, code, errOut, out)
		}
	}
}
