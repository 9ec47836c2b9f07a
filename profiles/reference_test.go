package profiles

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the reference in docs/profiles.md")

const (
	reference       = "../docs/profiles.md"
	referenceMarker = "<!-- The rest is written by `go test ./profiles -update`. -->\n"
)

// TestReference holds the list of keys in the documentation against the table.
func TestReference(t *testing.T) {
	data, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	top, old, ok := strings.Cut(string(data), referenceMarker)
	if !ok {
		t.Fatalf("%s has no line %q", reference, referenceMarker)
	}
	doc, err := Explain("")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, d := range doc.Children {
		describeKey(&b, d)
	}
	if *update {
		if err := os.WriteFile(reference, []byte(top+referenceMarker+b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(b.String(), old); diff != "" {
		t.Errorf("the documentation differs from the table; run go test ./profiles -update\n%s", diff)
	}
}

func describeKey(b *strings.Builder, d Doc) {
	level := "####"
	if !strings.Contains(d.Key, ".") {
		level = "###"
	}
	fmt.Fprintf(b, "\n%s `%s`\n\n%s\n", level, d.Key, d.Text)
	if d.Type != "section" {
		facts := []string{d.Type}
		switch {
		case d.Required:
			facts = append(facts, "required")
		case d.Default == "":
			facts = append(facts, "empty by default")
		default:
			facts = append(facts, "default `"+d.Default+"`")
		}
		if d.Allowed != "" {
			facts = append(facts, "allowed: `"+strings.ReplaceAll(d.Allowed, ", ", "`, `")+"`")
		}
		fmt.Fprintf(b, "\n- %s\n", strings.Join(facts, "; "))
		if d.Env != "" {
			fmt.Fprintf(b, "- `%s`, `%s`\n", d.Env, d.Set)
		}
		switch {
		case d.Live != "":
			fmt.Fprintf(b, "- while a lab is up it can change: %s\n", d.Live)
		case d.Stays != "":
			fmt.Fprintf(b, "- while a lab is up it stays: %s\n", d.Stays)
		}
	}
	for _, c := range d.Children {
		describeKey(b, c)
	}
}

// fence is a fenced block of a page.
type fence struct {
	info, text string
	// first is set when a heading came since the block before.
	first bool
}

func fences(page string) []fence {
	var all []fence
	inside, heading := false, true
	for line := range strings.Lines(page) {
		info, mark := strings.CutPrefix(line, "```")
		switch {
		case mark && !inside:
			all = append(all, fence{info: strings.TrimSpace(info), first: heading})
			inside, heading = true, false
		case mark:
			inside = false
		case inside:
			all[len(all)-1].text += line
		case strings.HasPrefix(line, "#"):
			heading = true
		}
	}
	return all
}

// TestExamplesInTheDocumentation loads the profiles in the documentation. Text that
// follows one under the same heading must be what loading says; the others are valid.
func TestExamplesInTheDocumentation(t *testing.T) {
	for _, page := range []string{reference, "../README.md"} {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		examples := 0
		all := fences(string(data))
		for i, f := range all {
			name, ok := strings.CutPrefix(f.info, "yaml file=")
			if !ok {
				continue
			}
			examples++
			want, got := "", ""
			if i+1 < len(all) && all[i+1].info == "text" && !all[i+1].first {
				want = all[i+1].text
			}
			dir := write(t, map[string]string{name: f.text})
			if _, err := Load(filepath.Join(dir, name), Options{}); err != nil {
				got = strings.ReplaceAll(err.Error(), dir+"/", "") + "\n"
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s in %s:\n%s", name, page, diff)
			}
		}
		if examples == 0 {
			t.Errorf("%s has no example", page)
		}
	}
}
