package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/internal/atomicfile"
	"wirelab.dev/wirelab/verify"
)

// endings are the formats of a report of checks by how a file's name ends.
var endings = map[string]string{".xml": "junit", ".json": "json", ".md": "markdown", ".txt": "text"}

// outFile is a flag for files that get the report of the checks, besides what is printed.
type outFile struct{ names []string }

func (o *outFile) String() string { return strings.Join(o.names, ",") }
func (*outFile) Type() string     { return "file" }

// Set adds a file, whose name says in which format it is to be.
func (o *outFile) Set(name string) error {
	switch {
	case blank(name):
		return errors.New("its value is empty: give one, or leave the flag out")
	case endings[filepath.Ext(name)] == "":
		return errors.New("the format is told by how the name ends: .xml for JUnit, .json, .md for Markdown or .txt")
	}
	o.names = append(o.names, name)
	return nil
}

func (o *outFile) flag(cmd *cobra.Command) {
	cmd.Flags().Var(o, "output-file", "write the results of the checks to this file too: .xml (JUnit), .json, .md or .txt (repeat for more)")
	must(cmd.MarkFlagFilename("output-file", "xml", "json", "md", "txt"))
}

// prepare is called before anything is made: each file has to be one that can be written.
func (o *outFile) prepare() error { return canWrite(o.names...) }

// write writes the report to each file.
func (o *outFile) write(report *verify.Report, verbose bool) error {
	var errs []error
	for _, name := range o.names {
		var b bytes.Buffer
		err := printReport(&b, report, endings[filepath.Ext(name)], verbose)
		if err == nil {
			err = writeWhole(name, b.Bytes())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// resultMode is that of files with results: they are for others to read.
const resultMode = 0o644

// canWrite says which of some files cannot be written. An empty name is of none.
func canWrite(names ...string) error {
	for _, name := range names {
		if name == "" {
			continue
		}
		if err := atomicfile.Try(name, nil, resultMode); err != nil {
			return fmt.Errorf("%s cannot be written: %w", name, err)
		}
	}
	return nil
}

func writeWhole(name string, content []byte) error {
	if err := atomicfile.Replace(name, content, resultMode); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func printReport(w io.Writer, report *verify.Report, as string, verbose bool) error {
	switch as {
	case "json":
		return report.WriteJSON(w)
	case "junit":
		return report.WriteJUnit(w)
	case "markdown":
		return report.WriteMarkdown(w)
	default:
		return report.WriteText(w, verbose)
	}
}

// checkOutput is where a report of the checks goes.
type checkOutput struct {
	printed *format
	files   outFile
	verbose bool
}

// report prints a report and writes it to the files.
func (o *checkOutput) report(w io.Writer, r *verify.Report) error {
	return errors.Join(printReport(w, r, o.printed.value, o.verbose), o.files.write(r, o.verbose))
}
