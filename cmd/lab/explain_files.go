package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"strings"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/labs/passport"
	"wirelab.dev/wirelab/labs/passport/draw"
)

// passportFiles are the files that a passport is drawn to, besides what is printed.
type passportFiles struct{ svg, html string }

func (f *passportFiles) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.svg, "svg", "", "draw the passport to this file too, as SVG")
	cmd.Flags().StringVar(&f.html, "html", "", "write the passport to this file too, drawn and in words, as a page that needs nothing else")
	must(cmd.MarkFlagFilename("svg", "svg"))
	must(cmd.MarkFlagFilename("html", "html"))
}

// prepare is called before anything is sent: each file has to be one that can be written.
func (f *passportFiles) prepare() error {
	if err := canWrite(f.svg, f.html); err != nil {
		return err
	}
	if f.svg != "" && f.svg == f.html {
		return usageError{fmt.Errorf("--svg and --html are both to write %s", f.svg)}
	}
	return nil
}

func (f *passportFiles) write(lab string, p passport.Passport) error {
	var errs []error
	if f.svg != "" {
		errs = append(errs, writeWhole(f.svg, draw.Passport(p)))
	}
	if f.html != "" {
		page, err := passportPage(lab, p)
		if err == nil {
			err = writeWhole(f.html, page)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

var (
	//go:embed explain_page.html
	explainPage string

	explainTemplate = template.Must(template.New("page").Parse(explainPage))
)

// notSeen is a place where the packet was not seen, as the page has it.
type notSeen struct{ Way, Node, Place, Reason string }

// passportPage is the passport as HTML that needs nothing else to be read.
func passportPage(lab string, p passport.Passport) ([]byte, error) {
	text := passportText{lab: lab}
	head, words, _ := strings.Cut(text.String(p), "\n")
	var absences []notSeen
	for _, w := range []struct {
		name string
		way  *passport.Way
	}{{"request", p.Request}, {"answer", p.Answer}} {
		if w.way == nil {
			continue
		}
		for _, a := range w.way.Absences {
			absences = append(absences, notSeen{w.name, text.node(a.Node), a.Place(), a.Reason})
		}
	}
	var b bytes.Buffer
	err := explainTemplate.Execute(&b, struct {
		Lab, Head, Words string
		Failed           bool
		Drawing          template.HTML
		Absences         []notSeen
	}{lab, head, strings.TrimPrefix(words, "\n"), p.Failed != "", template.HTML(draw.Passport(p)), absences}) //nolint:gosec // an SVG that escapes what it is told
	if err != nil {
		return nil, fmt.Errorf("write the page: %w", err)
	}
	return b.Bytes(), nil
}
