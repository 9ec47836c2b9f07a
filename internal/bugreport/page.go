package bugreport

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"strings"
	"time"
)

// maxShown is how much of one part the page has, in bytes; the archive has all of it.
const maxShown = 64 << 10

var (
	//go:embed page.html
	pageText string

	pageTemplate = template.Must(template.New("page").Parse(pageText))
)

// pageSection is what the page has under one heading.
type pageSection struct {
	Title string
	Parts []pagePart
}

type pagePart struct{ Title, Path, Text, Lacking, Cut string }

// page is the report as HTML that needs nothing else to be read.
func (r *Report) page(made time.Time) ([]byte, error) {
	var sections []*pageSection
	of := map[string]*pageSection{}
	for _, p := range r.Parts {
		s := of[p.Section]
		if s == nil {
			s = &pageSection{Title: p.Section}
			of[p.Section] = s
			sections = append(sections, s)
		}
		s.Parts = append(s.Parts, shownPart(p))
	}
	var b bytes.Buffer
	err := pageTemplate.Execute(&b, struct {
		*Report
		Made     string
		Sections []*pageSection
	}{r, made.UTC().Format("2006-01-02 15:04:05 UTC"), sections})
	if err != nil {
		return nil, fmt.Errorf("write the page: %w", err)
	}
	return b.Bytes(), nil
}

// shownPart is a part as the page has it: its end, or its beginning, where it is long.
func shownPart(p Part) pagePart {
	text := cmp.Or(p.Shown, string(p.Content))
	out := pagePart{Title: p.Title, Lacking: p.Lacking}
	if len(p.Content) > 0 || p.Lacking == "" {
		out.Path = p.Path
	}
	if len(text) > maxShown {
		out.Cut = fmt.Sprintf("%d KiB of %d KiB are shown; the archive has the rest.", maxShown>>10, len(text)>>10)
		if p.Tail {
			text = text[len(text)-maxShown:]
			text = text[strings.IndexByte(text, '\n')+1:]
		} else {
			text = text[:maxShown]
		}
	}
	out.Text = strings.ToValidUTF8(text, "\uFFFD")
	return out
}
