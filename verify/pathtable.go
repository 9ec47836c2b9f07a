package verify

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// pathTable is what the checks of a run have filled in of the path table.
type pathTable struct {
	rows, columns []string // in the order they were first met
	cells         map[[2]string]string
}

// tableOf collects the cells of all results. A cell that is not what it is to
// be in the mode is marked, and where pairs of pods differ it has all of it.
func tableOf(results []Result) pathTable {
	t := pathTable{cells: map[[2]string]string{}}
	for _, result := range results {
		for _, c := range result.Cells {
			if !slices.Contains(t.rows, c.Row) {
				t.rows = append(t.rows, c.Row)
			}
			if !slices.Contains(t.columns, c.Column) {
				t.columns = append(t.columns, c.Column)
			}
			words := c.Seen
			if c.Seen != c.Want {
				words = fmt.Sprintf("!%s, want %s", c.Seen, c.Want)
			}
			at := [2]string{c.Row, c.Column}
			switch before := t.cells[at]; {
			case before == "":
				t.cells[at] = words
			case !slices.Contains(strings.Split(before, "; "), words):
				t.cells[at] = before + "; " + words
			}
		}
	}
	return t
}

// tableTitle explains the table's letters.
const tableTitle = "Packets seen on their way: requests R and replies P, in brackets the TTL; - none of them"

// legend explains what else is in the table's cells.
func (t pathTable) legend() (lines []string) {
	for _, sign := range []struct {
		is   *regexp.Regexp
		text string
	}{
		{regexp.MustCompile(`\[\d+ in (vxlan|geneve)\]`), "[64 in vxlan] or [64 in geneve]: inside a packet of the tunnel"},
		{regexp.MustCompile(`\b(passes|lost)\b`), "passes, lost: whether packets got through while a rule of iptables would have dropped them"},
		{regexp.MustCompile(`\b(yes|no)\b`), "yes, no: whether the nodes' stacks had to do with them"},
		{regexp.MustCompile(`^!|; !`), "!SEEN, want WANTED: another thing than the lab's mode has to show"},
		{regexp.MustCompile(`;`), "ONE; OTHER: not the same between all pairs of pods"},
	} {
		for _, cell := range t.cells {
			if sign.is.MatchString(cell) {
				lines = append(lines, sign.text)
				break
			}
		}
	}
	return lines
}

// write prints the table, or nothing when it has no cells.
func (t pathTable) write(w io.Writer) {
	if len(t.rows) == 0 {
		return
	}
	lines := [][]string{append([]string{""}, t.columns...)}
	for _, row := range t.rows {
		line := []string{row}
		for _, column := range t.columns {
			line = append(line, t.cells[[2]string{row, column}])
		}
		lines = append(lines, line)
	}
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, text := range line {
			widths[i] = max(widths[i], len(text))
		}
	}
	fmt.Fprintf(w, "\n%s\n\n", strings.Join(append([]string{tableTitle}, t.legend()...), "\n"))
	for _, line := range lines {
		var b strings.Builder
		for i, text := range line {
			fmt.Fprintf(&b, "%-*s", widths[i]+2, text)
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}
