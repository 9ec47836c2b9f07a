// Package bugreport is what one attaches to a bug about a lab: what its parts answered, and what could not be had and why, as
// one page and one archive. Secrets are left out of both.
package bugreport

import (
	"cmp"
	"slices"
)

// Report is about one lab at one time.
type Report struct {
	Lab    string
	About  [][2]string // facts that everything below is read with
	Red    []Red       // what is wrong, most important first
	Tables []Table     // shown before the parts
	Parts  []Part
	// Secrets are values that must not be in what is written, besides all that looks like a secret.
	Secrets []string
}

// Red is one thing that is wrong.
type Red struct{ What, Why string }

// Table is shown as one on the page.
type Table struct {
	Title string
	Head  []string
	Rows  []Row
}

// Row is one of a table, and whether it tells of something that is wrong.
type Row struct {
	Cells []string
	Bad   bool
}

// Part is one thing that was asked for, with the answer, or why there is none.
type Part struct {
	Section string // the page's heading that it is under
	Title   string
	Path    string // in the archive: unique, and the order on the page
	Content []byte
	// Shown is what the page has of it; empty: the content.
	Shown string
	// Tail says that the end of it matters most, as of a log.
	Tail bool
	// Lacking is why there is no content, or not all of it, in half a sentence. Empty when all is there.
	Lacking string
}

// Lacking are the parts that are not there, or not whole, in the order of their paths.
func (r *Report) Lacking() (out []Part) {
	for _, p := range r.Parts {
		if p.Lacking != "" {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, byPath)
	return out
}

func byPath(a, b Part) int { return cmp.Compare(a.Path, b.Path) }

// scrubbed is r without secrets, its parts sorted.
func (r *Report) scrubbed() *Report {
	s := newScrubber(r.Secrets)
	out := &Report{Lab: r.Lab}
	for _, a := range r.About {
		out.About = append(out.About, [2]string{a[0], s.text(a[1])})
	}
	for _, red := range r.Red {
		out.Red = append(out.Red, Red{s.text(red.What), s.text(red.Why)})
	}
	for _, t := range r.Tables {
		clean := Table{Title: t.Title, Head: t.Head}
		for _, row := range t.Rows {
			cells := make([]string, len(row.Cells))
			for i, c := range row.Cells {
				cells[i] = s.text(c)
			}
			clean.Rows = append(clean.Rows, Row{cells, row.Bad})
		}
		out.Tables = append(out.Tables, clean)
	}
	for _, p := range r.Parts {
		p.Content, p.Shown, p.Lacking = []byte(s.text(string(p.Content))), s.text(p.Shown), s.text(p.Lacking)
		out.Parts = append(out.Parts, p)
	}
	slices.SortStableFunc(out.Parts, byPath)
	return out
}
