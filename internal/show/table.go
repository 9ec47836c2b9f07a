// Package show lays out for people what agents report: the agent's own
// commands show one node, those of a lab all of them, in the same words.
package show

import (
	"io"
	"strings"
	"unicode/utf8"
)

// Table is text in columns. A row may be shorter than Head, which may be left
// out.
type Table struct {
	Head []string
	Rows [][]string
}

// On puts the column NODE in front. Rows that go on with the one above them,
// which begin with an empty cell, go on in this column too.
func (t Table) On(node string) Table {
	out := Table{Head: append([]string{"NODE"}, t.Head...)}
	for _, row := range t.Rows {
		name := node
		if len(row) > 0 && row[0] == "" {
			name = ""
		}
		out.Rows = append(out.Rows, append([]string{name}, row...))
	}
	return out
}

// Join puts tables of one kind below each other.
func Join(tables ...Table) Table {
	var out Table
	for _, t := range tables {
		out.Head = t.Head
		out.Rows = append(out.Rows, t.Rows...)
	}
	return out
}

// Write writes the table with two spaces between columns and none at the end
// of a line.
func (t Table) Write(w io.Writer) error {
	_, err := io.WriteString(w, t.String())
	return err
}

func (t Table) String() string {
	lines := t.Rows
	if len(t.Head) > 0 {
		lines = append([][]string{t.Head}, t.Rows...)
	}
	var widths []int
	for _, line := range lines {
		for i, cell := range line {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, line := range lines {
		var row strings.Builder
		for i, cell := range line {
			row.WriteString(cell)
			row.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		b.WriteString(strings.TrimRight(row.String(), " ") + "\n")
	}
	return b.String()
}
