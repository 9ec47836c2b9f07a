// Package show lays out for people what agents report: the agent's own
// commands show one node, those of a lab all of them, in the same words.
package show

import (
	"strings"
	"unicode/utf8"

	"wirelab.dev/wirelab/internal/screen"
)

// Table is text in columns. A row may be shorter than Head, which may be left out.
type Table struct {
	Head []string
	Rows [][]string
}

// tableOf makes tables of one row for each thing.
func tableOf[T any](head []string, row func(T) []string) func([]T) Table {
	return func(all []T) Table {
		t := Table{Head: head}
		for _, x := range all {
			t.Rows = append(t.Rows, row(x))
		}
		return t
	}
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

// String lays the table out for as many columns as COLUMNS says, with two spaces between its own and none at the end
// of a line.
func (t Table) String() string { return t.Fit(screen.Columns()) }

// Fit lays the table out in lines of at most width characters; 0 is any width. What does not fit is folded: the last
// column where that leaves it room, else each row into lines of its own.
func (t Table) Fit(width int) string {
	widths := t.widths()
	total := lineWidth(widths, gap)
	if width <= 0 || total <= width {
		return t.laidOut(widths, gap, 0)
	}
	if room := width - (total - widths[len(widths)-1]); room >= foldable {
		return t.laidOut(widths, gap, room)
	}
	return t.records(width)
}

// Loose lays the table out as String does, but with three spaces between columns where there is room for that.
func (t Table) Loose() string {
	const gap = 3
	widths, width := t.widths(), screen.Columns()
	if width == 0 || lineWidth(widths, gap) <= width {
		return t.laidOut(widths, gap, 0)
	}
	return t.Fit(width)
}

// lineWidth is how wide a line of columns is, with so many characters between these.
func lineWidth(columns []int, gap int) (n int) {
	for _, w := range columns {
		n += w
	}
	return n + gap*max(0, len(columns)-1)
}

const (
	// gap is between columns, in characters.
	gap = 2
	// foldable is how narrow a column may get that is folded.
	foldable = 24
)

func (t Table) lines() [][]string {
	if len(t.Head) == 0 {
		return t.Rows
	}
	return append([][]string{t.Head}, t.Rows...)
}

func (t Table) widths() (widths []int) {
	for _, line := range t.lines() {
		for i, cell := range line {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

// laidOut folds the last column to room characters, unless that is 0. gap is between columns, in characters.
func (t Table) laidOut(widths []int, gap, room int) string {
	var b strings.Builder
	for _, line := range t.lines() {
		var row strings.Builder
		for i, cell := range line {
			if room > 0 && i == len(widths)-1 {
				indent := utf8.RuneCountInString(row.String())
				cell = strings.Join(screen.Wrap(cell, room), "\n"+strings.Repeat(" ", indent))
				row.WriteString(cell)
				continue
			}
			row.WriteString(cell)
			row.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+gap))
		}
		b.WriteString(strings.TrimRight(row.String(), " ") + "\n")
	}
	return b.String()
}

// records writes each row as its first cell, where that is another than the row's before, and below it the others, each
// behind the head of its column.
func (t Table) records(width int) string {
	const indent = "  "
	var b strings.Builder
	above := ""
	for _, row := range t.Rows {
		var words []string
		for i, cell := range row {
			switch {
			case cell == "":
			case i == 0:
				if cell != above {
					b.WriteString(strings.Join(screen.Wrap(cell, width), "\n"+indent) + "\n")
				}
				above = cell
			case i < len(t.Head):
				words = append(words, t.Head[i]+" "+cell)
			default:
				words = append(words, cell)
			}
		}
		line := ""
		for _, word := range words {
			if line != "" && utf8.RuneCountInString(indent+line+indent+word) <= width {
				line += indent + word
				continue
			}
			writeIndented(&b, indent, line, width)
			line = word
		}
		writeIndented(&b, indent, line, width)
	}
	return b.String()
}

func writeIndented(b *strings.Builder, indent, line string, width int) {
	if line == "" {
		return
	}
	if utf8.RuneCountInString(indent+line) <= width {
		b.WriteString(indent + line + "\n")
		return
	}
	for i, part := range screen.Wrap(line, width-2*len(indent)) {
		if i > 0 {
			b.WriteString(indent)
		}
		b.WriteString(indent + part + "\n")
	}
}
