package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var (
	inCode  = regexp.MustCompile("`(?:bin/)?lab ([^`]+)`")
	inBlock = regexp.MustCompile(`^(?:\$ |> )?(?:.*[$|;&(]\s*)?bin/lab ([^#|;&)]+)`)
)

// TestPagesTypeWhatThereIs holds the commands that pages tell of against those there are, with their flags.
func TestPagesTypeWhatThereIs(t *testing.T) {
	known := 0
	for page, lines := range pages(t) {
		for n, line := range lines {
			var typed []string
			for _, m := range inCode.FindAllStringSubmatch(line, -1) {
				typed = append(typed, m[1])
			}
			if m := inBlock.FindStringSubmatch(line); m != nil {
				typed = append(typed, m[1])
			}
			for _, words := range typed {
				if why := unknown(strings.Fields(words)); why != "" {
					t.Errorf("%s:%d: lab %s: %s", page, n+1, words, why)
				}
				known++
			}
		}
	}
	if known < 100 {
		t.Errorf("pages have %d commands: this says nothing about them", known)
	}
	for _, wrong := range []string{"bpf lb lst", "statsu", "status --verbos", "flows -z"} {
		if unknown(strings.Fields(wrong)) == "" {
			t.Errorf("lab %s is taken for one that is there", wrong)
		}
	}
}

var (
	// betting is what bets on time, hides what went wrong, or counts columns, which shift.
	betting = regexp.MustCompile(`\b(sleep|usleep|timeout|awk)\b|[2&]> ?/dev/null|> ?/dev/null 2>&1`)
	// background is a command that is not waited for, where nothing is in quotes.
	background = regexp.MustCompile(`(^|[^&>])&( |\)|$)`)
	quoted     = regexp.MustCompile(`'[^']*'|"[^"]*"`)
)

// racing is what of a command prints something else on a machine that is busy, or hides that; empty if nothing does.
func racing(line string) string {
	if found := betting.FindString(line); found != "" {
		return found
	}
	return background.FindString(quoted.ReplaceAllString(line, ""))
}

// TestPagesCannotRace holds the commands of pages to print the same on a machine that is busy. What is seen while something
// happens is typed as lab monitor or lab capture with a command.
func TestPagesCannotRace(t *testing.T) {
	typed := 0
	for page, lines := range pages(t) {
		console, continued := false, false
		for n, line := range lines {
			if strings.HasPrefix(line, "```") {
				console, continued = line == "```console", false
				continue
			}
			if continued = console && (strings.HasPrefix(line, "$ ") || continued && strings.HasPrefix(line, "> ")); !continued {
				continue
			}
			typed++
			if word := racing(line); word != "" {
				t.Errorf("%s:%d: %q in %s", page, n+1, word, line)
			}
		}
	}
	if typed < 100 {
		t.Errorf("pages type %d lines: this says nothing about them", typed)
	}
	for _, line := range []string{
		"$ (sleep 2; ping -c 1 $far) &", "$ ping $far & tcpdump", "$ timeout 6 lab monitor", "> lab monitor 2>/dev/null | grep echo", "$ k get pod | awk '{print $4}'",
		"$ ping $far >/dev/null 2>&1", "$ ping $far &>/dev/null",
	} {
		if racing(line) == "" {
			t.Errorf("%s is let pass", line)
		}
	}
	for _, line := range []string{"$ ping $far 2>&1 | grep mtu", "$ ping $far >/dev/null", "$ a && b", "$ lab capture 'tcp[tcpflags] & tcp-syn != 0'"} {
		if word := racing(line); word != "" {
			t.Errorf("%q is found in %s", word, line)
		}
	}
}

// pages are the lines of each page.
func pages(t *testing.T) map[string][]string {
	t.Helper()
	files := []string{"../../README.md", "../../CONTRIBUTING.md"}
	if err := filepath.WalkDir("../../docs", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			files = append(files, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[file] = strings.Split(string(text), "\n")
	}
	return all
}

// unknown is what of a command there is not, empty if all of it is.
func unknown(words []string) string {
	root := newRootCmd()
	root.InitDefaultCompletionCmd() // as cobra does when it runs
	for i, w := range words {
		if w == "--" {
			words = words[:i]
			break
		}
	}
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err.Error()
	}
	if cmd == root && len(words) > 0 && !strings.HasPrefix(words[0], "-") {
		return "there is no such command"
	}
	if group := cmd.HasSubCommands() && cmd.ValidArgsFunction == nil; group && len(rest) > 0 && isName(rest[0]) {
		return "there is no such command below " + cmd.Name()
	}
	for _, w := range rest {
		if bad := unknownFlag(cmd, w); bad {
			return "there is no flag " + w
		}
	}
	return ""
}

// isName says whether a word of a page is typed as it is. Placeholders are in capitals, or an ellipsis.
func isName(word string) bool {
	return strings.ToLower(word) == word && word[0] >= 'a' && word[0] <= 'z'
}

func unknownFlag(cmd *cobra.Command, word string) bool {
	name, _, _ := strings.Cut(strings.TrimRight(word, ",."), "=")
	cmd.InitDefaultHelpFlag()
	var f *pflag.Flag
	switch {
	case strings.HasPrefix(name, "--"):
		f = cmd.Flags().Lookup(name[2:])
	case strings.HasPrefix(name, "-") && len(name) > 1:
		f = cmd.Flags().ShorthandLookup(name[1:2])
	default:
		return false
	}
	return f == nil
}
