//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// walkthrough is where the page of a profile is, if it has one.
func walkthrough(profile string) string {
	return filepath.Join("..", "docs", "walkthroughs", profile+".md")
}

// exercises are tasks with solutions, for a lab of one profile.
const (
	exercises   = "../docs/exercises.md"
	exercisesOf = "ebpf"
)

// passports is a page with a part for each of some profiles.
const passports = "../docs/explain.md"

// step is a command of a walkthrough and what the page says that it prints.
type step struct {
	line    int
	command string
	prints  []string
}

// typePage types a page that is about a profile along, in a lab of it: it runs each command of its console blocks, in one
// shell, and holds what the command prints on standard output against the page, as fits does. Of a page with a part for each
// of several profiles, it is the part of this one.
func typePage(t *testing.T, lab, profile, page string) {
	steps := partOf(readSteps(t, page), profile)
	if len(steps) == 0 {
		t.Fatalf("%s has no part for %s", page, profile)
	}
	out, errs := typeAlong(t, steps, "L="+profile, "L="+lab)
	known := ways{{}}
	for i, s := range steps {
		if i >= len(out) {
			t.Fatalf("%s:%d: $ %s\nthe shell does not get there", page, s.line, s.command)
		}
		now := known.fits(s.prints, lines(asOnPage(out[i], lab, profile)))
		if now == nil {
			t.Errorf("%s:%d: $ %s\nprints\n%s\nto be like\n%s\nwhere it stands for %v\non standard error:\n%s",
				page, s.line, s.command, out[i], strings.Join(s.prints, "\n"), known[0], errs[i])
			continue
		}
		known = now
	}
}

// partOf are the steps for a profile where there are parts for several, each from its L=profile on, with what comes before all
// parts; otherwise all steps.
func partOf(steps []step, profile string) (part []step) {
	parts, mine, found := 0, true, false
	for _, s := range steps {
		if of, begins := strings.CutPrefix(s.command, "L="); begins {
			parts, mine = parts+1, of == profile
			found = found || mine
		}
		if mine {
			part = append(part, s)
		}
	}
	switch {
	case parts < 2:
		return steps
	case !found:
		return nil
	}
	return part
}

// asOnPage is what was printed in a lab, with the lab's name as on the page, where it is the profile's. Either may begin with the
// other, so the longer one is looked for first.
func asOnPage(printed, lab, profile string) string {
	if len(lab) < len(profile) {
		return strings.NewReplacer(profile, profile, lab, profile).Replace(printed)
	}
	return strings.ReplaceAll(printed, lab, profile)
}

func TestAsOnPage(t *testing.T) {
	for _, c := range []struct{ printed, lab, want string }{
		{"e2e-ebpf-worker ebpf", "e2e-ebpf", "kubeproxy-replacement-worker ebpf"},
		{"kubeproxy-worker kubeproxy-replacement", "kubeproxy", "kubeproxy-replacement-worker kubeproxy-replacement"},
		{"kubeproxy-replacement-2-worker kubeproxy-replacement", "kubeproxy-replacement-2", "kubeproxy-replacement-worker kubeproxy-replacement"},
		{"kubeproxy-replacement-worker", "kubeproxy-replacement", "kubeproxy-replacement-worker"},
	} {
		if got := asOnPage(c.printed, c.lab, "kubeproxy-replacement"); got != c.want {
			t.Errorf("in %s, %q is %q, want %q", c.lab, c.printed, got, c.want)
		}
	}
}

// typeAlong runs the steps in one bash and returns what each has printed on standard output and standard error. Where a
// step is the line was, it runs is instead.
func typeAlong(t *testing.T, steps []step, was, is string) (out, errs []string) {
	t.Helper()
	const mark = "=== step\n"
	var script strings.Builder
	for _, s := range steps {
		command := s.command
		if command == was {
			command = is
		}
		fmt.Fprintf(&script, "printf '%s'; printf '%s' >&2\n%s\n", mark, mark, command)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	// Not by standard input: commands would read what is left of it. That is a terminal, as a reader's is, in which nothing is typed.
	cmd := exec.CommandContext(ctx, "bash", "-c", script.String())
	cmd.Dir = ".."
	cmd.Stdin = silentTerminal(t)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// With all that it has started, or a command that waits would hold the pipes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Run(); ctx.Err() != nil || cmd.ProcessState == nil {
		t.Errorf("the shell ends with %v, %v", err, ctx.Err())
	} // the status of its last command is none of ours: grep -c has 1 for none
	split := func(b bytes.Buffer) []string { return strings.Split(b.String(), mark)[1:] }
	return split(stdout), split(stderr)
}

// silentTerminal is one in which nobody types.
func silentTerminal(t *testing.T) *os.File {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	fd := int(keyboard.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatalf("unlock a terminal: %v", err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatalf("number of a terminal: %v", err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return terminal
}

// readSteps reads the console blocks of a Markdown file: commands behind "$ ", which go on in lines behind "> ", and what
// they print.
func readSteps(t *testing.T, file string) (steps []step) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for n, line := range lines(string(text)) {
		if strings.HasPrefix(line, "```") {
			inside = line == "```console"
			continue
		}
		if !inside {
			continue
		}
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			steps = append(steps, step{line: n + 1, command: command})
			continue
		}
		if len(steps) == 0 {
			t.Fatalf("%s:%d: output of no command", file, n+1)
		}
		last := &steps[len(steps)-1]
		if more, ok := strings.CutPrefix(line, "> "); ok && len(last.prints) == 0 {
			last.command += "\n" + more
			continue
		}
		last.prints = append(last.prints, line)
	}
	if len(steps) == 0 {
		t.Fatalf("%s has no commands", file)
	}
	return steps
}

// lines are those of a text, without the newline at its end.
func lines(text string) []string {
	if text = strings.TrimRight(text, "\n"); text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// TestWalkthroughsKnowAnyEcho holds that no page rests on the ids of its echoes, which a machine counts from when it was
// started, wherever a command prints them.
func TestWalkthroughsKnowAnyEcho(t *testing.T) {
	pages, err := filepath.Glob(walkthrough("*"))
	if err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`echo (?:request|reply), id (\d+), seq`)
	tried := 0
	for _, page := range pages {
		for _, s := range readSteps(t, page) {
			printed := strings.Join(s.prints, "\n")
			for n, found := range id.FindAllStringSubmatch(printed, -1) {
				printed = regexp.MustCompile(`\b`+found[1]+`\b`).ReplaceAllString(printed, strconv.Itoa(n+1))
				tried++
			}
			if (ways{{}}).fits(s.prints, lines(printed)) == nil {
				t.Errorf("%s:%d: $ %s\ndoes not fit\n%s", page, s.line, s.command, printed)
			}
		}
	}
	if tried == 0 {
		t.Error("no page has an echo")
	}
}

// TestPartOf: of a page with parts for several profiles, a lab of one gets what is before all parts, and its own.
func TestPartOf(t *testing.T) {
	page := []step{{command: "f() { :; }"}, {command: "L=kubeproxy"}, {command: "f 1"}, {command: "L=ebpf"}, {command: "f 2"}}
	one := page[:3]
	for _, c := range []struct {
		profile string
		of      []step
		want    string
	}{
		{"kubeproxy", page, "f() { :; } L=kubeproxy f 1"},
		{"ebpf", page, "f() { :; } L=ebpf f 2"},
		{"vxlan", page, ""},
		{"kubeproxy", one, "f() { :; } L=kubeproxy f 1"},
	} {
		var got []string
		for _, s := range partOf(c.of, c.profile) {
			got = append(got, s.command)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("for %s: %q, want %q", c.profile, got, c.want)
		}
	}
}
