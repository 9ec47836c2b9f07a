package main

import (
	"cmp"
	"fmt"
	"strings"

	"wirelab.dev/wirelab/internal/screen"
	"wirelab.dev/wirelab/internal/show"
	"wirelab.dev/wirelab/profiles"
)

// explainText is what `lab profile explain` prints: everything about one key, or the
// keys of a section with a line each.
func explainText(doc profiles.Doc) string {
	var b strings.Builder
	text := strings.Join(screen.Wrap(doc.Text, screen.AtMost(88)-2), "\n  ")
	fmt.Fprintf(&b, "%s\n  %s\n", cmp.Or(doc.Key, "profile"), text)
	if facts := facts(doc); len(facts) > 0 {
		b.WriteString("\n" + show.Table{Rows: facts}.Loose())
	}
	if len(doc.Children) > 0 {
		keys := show.Table{Head: []string{"  KEY", "TYPE", "DEFAULT", "ALLOWED"}, Rows: below(doc.Children)}
		b.WriteString("\n" + keys.Loose())
		b.WriteString("\n  lab profile explain KEY says more about one of them\n")
	}
	return b.String()
}

func facts(doc profiles.Doc) [][]string {
	if doc.Type == "section" || doc.Type == "profile" {
		return nil
	}
	fallback := cmp.Or(doc.Default, `""`)
	if doc.Required {
		fallback = "none: each file writes it"
	}
	rows := [][]string{{"  type", doc.Type}, {"  default", fallback}}
	for _, fact := range [][2]string{{"allowed", doc.Allowed}, {"environment", doc.Env}, {"flag", doc.Set}, {"while up", whileUp(doc)}} {
		if fact[1] != "" {
			rows = append(rows, []string{"  " + fact[0], fact[1]})
		}
	}
	return rows
}

// whileUp says whether the key can change in a lab that is up.
func whileUp(doc profiles.Doc) string {
	switch {
	case doc.Stays != "":
		return "stays: " + doc.Stays
	case doc.Live != "":
		return "can change: " + doc.Live
	}
	return ""
}

// below lists keys and all that is under them.
func below(docs []profiles.Doc) [][]string {
	var rows [][]string
	for _, d := range docs {
		fallback := cmp.Or(d.Default, `""`)
		switch {
		case d.Type == "section":
			fallback = ""
		case d.Required:
			fallback = "(required)"
		}
		rows = append(rows, []string{"  " + d.Key, d.Type, fallback, d.Allowed})
		rows = append(rows, below(d.Children)...)
	}
	return rows
}
