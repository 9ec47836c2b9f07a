//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// step is a command of a walkthrough and what it says the command prints.
type step struct {
	line    int
	command string
	prints  []string
}

// testWalkthrough types along: it runs every command in the console blocks of a mode's walkthrough, in
// one shell, and compares what is printed. Addresses, names and counts are other ones in each lab; TTLs,
// words and their order are not. A line with only an ellipsis stands for any lines.
func testWalkthrough(t *testing.T, lab, mode string) {
	file := filepath.Join("..", "docs", "walkthroughs", mode+".md")
	steps := readSteps(t, file)
	const mark = "=== step "
	var script strings.Builder
	for i, s := range steps {
		command := s.command
		if command == "L="+mode {
			command = "L=" + lab
		}
		fmt.Fprintf(&script, "echo '%s%d'\n%s\n", mark, i, command)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	// Not by standard input: commands would read what is left of it.
	cmd := exec.CommandContext(ctx, "bash", "-c", script.String())
	cmd.Dir = ".."
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Logf("the shell ends with %v", err) // that of its last command, which may be a grep for nothing
	}
	parts := strings.Split(string(out), mark)[1:]
	if len(parts) != len(steps) {
		t.Fatalf("%d of %d commands ran:\n%s", len(parts), len(steps), out)
	}
	for i, s := range steps {
		_, printed, _ := strings.Cut(parts[i], "\n")
		if !fits(s.prints, strings.Split(strings.TrimRight(printed, "\n"), "\n"), lab, mode) {
			t.Errorf("%s:%d: $ %s\nprints\n%s\nto be like\n%s", file, s.line, s.command, printed, strings.Join(s.prints, "\n"))
		}
	}
}

// readSteps reads the console blocks of a Markdown file.
func readSteps(t *testing.T, file string) []step {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var steps []step
	inside, lines := false, bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		command, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case inside && isCommand:
			steps = append(steps, step{line: n, command: command})
		case inside && len(steps) > 0:
			steps[len(steps)-1].prints = append(steps[len(steps)-1].prints, line)
		}
	}
	if err := lines.Err(); err != nil || len(steps) == 0 {
		t.Fatalf("%s has %d commands: %v", file, len(steps), err)
	}
	return steps
}

// fits tells whether printed lines are those wanted, apart from what differs between labs.
func fits(want, printed []string, lab, mode string) bool {
	if len(printed) == 1 && printed[0] == "" {
		printed = nil
	}
	switch {
	case len(want) == 0:
		return len(printed) == 0
	case want[0] == "…":
		for skip := range len(printed) + 1 {
			if len(want) == 1 || fits(want[1:], printed[skip:], lab, mode) {
				return true
			}
		}
		return false
	case len(printed) == 0 || alike(want[0], lab, mode) != alike(printed[0], lab, mode):
		return false
	}
	return fits(want[1:], printed[1:], lab, mode)
}

// alike writes a line without what differs between labs.
func alike(line, lab, mode string) string {
	line = strings.ReplaceAll(line, lab+"-", "")
	line = strings.ReplaceAll(line, mode+"-", "")
	for _, r := range []struct {
		pattern *regexp.Regexp
		by      string
	}{
		{regexp.MustCompile(`\b(control-plane|worker2|worker)\b`), "NODE"},
		{regexp.MustCompile(`(?i)\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b`), "MAC"},
		{regexp.MustCompile(`\blxc[0-9a-f]{8}\b`), "lxc"},
		{regexp.MustCompile(`\bdemo-[a-z0-9]{5}\b`), "POD"},
		{regexp.MustCompile(`\bKUBE-SVC-[A-Z0-9]+`), "KUBE-SVC"},
		{regexp.MustCompile(`\b10\.0\.0\.0/8\b`), "CIDR"},
		{regexp.MustCompile(`\b\d+\.\d+\.\d+\.\d+(/24)?([:.]\d+)?\b`), "IP"},
		{regexp.MustCompile(`\b\d\d:\d\d:\d\d\.\d+\b`), "TIME"},
		{regexp.MustCompile(`\b\d+(\.\d+)?(ms| ms|µs|m?\d*s)\b`), "LONG"},
		{regexp.MustCompile(`\b(id|prog_id|link_id|seq|cgroup) \d+`), "$1 N"},
		{regexp.MustCompile(`(@if|IP:|lxc\()\d+`), "$1 N"},
		{regexp.MustCompile(`NODE +IP +\d+ +\d+ +`), "NODE IP N N "},
		{regexp.MustCompile(`\s+`), " "},
	} {
		line = r.pattern.ReplaceAllString(line, r.by)
	}
	return strings.TrimSpace(line)
}
