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
	pages := []string{"../../README.md", "../../CONTRIBUTING.md"}
	if err := filepath.WalkDir("../../docs", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			pages = append(pages, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	known := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(string(text), "\n") {
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

// unknown is what of a command there is not, empty if all of it is.
func unknown(words []string) string {
	root := newRootCmd()
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
