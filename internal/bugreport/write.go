package bugreport

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Names of the files that a report is.
const (
	PageFile    = "report.html"
	ArchiveFile = "report.tar.zst"
)

// Modes of what is written: a report tells much of a network, and is its owner's to hand on.
const (
	fileMode   fs.FileMode = 0o600
	folderMode fs.FileMode = 0o700
)

// Prepare makes sure that a report can be written to dir, which it makes where it is not there.
func Prepare(dir string) error {
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return fmt.Errorf("a report cannot be written: %w", err)
	}
	f, err := os.CreateTemp(dir, ".report-*")
	if err != nil {
		return fmt.Errorf("a report cannot be written: %w", err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// Write writes the page and the archive, which has the page too, in the place of those of an earlier report. made is the time
// that they say.
func Write(dir string, r *Report, made time.Time) error {
	clean := r.scrubbed()
	page, err := clean.page(made)
	if err != nil {
		return err
	}
	if err := Prepare(dir); err != nil {
		return err
	}
	err = replace(filepath.Join(dir, PageFile), func(w io.Writer) error {
		_, err := w.Write(page)
		return err
	})
	if err != nil {
		return err
	}
	return replace(filepath.Join(dir, ArchiveFile), func(w io.Writer) error { return clean.archive(w, page, made) })
}

// replace writes a file whole, or leaves the one that is there. A new one, unlike one that is written anew, has no mode of before.
func replace(name string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".report-*") // of mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	err = errors.Join(write(f), f.Chmod(fileMode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// archive writes the page, the parts, and a list of what is lacking, in one folder.
func (r *Report) archive(w io.Writer, page []byte, made time.Time) error {
	z, err := zstd.NewWriter(w)
	if err != nil {
		return fmt.Errorf("compress the report: %w", err)
	}
	files := map[string][]byte{PageFile: page, "lacking.txt": r.lackingText()}
	for _, p := range r.Parts {
		if len(p.Content) > 0 || p.Lacking == "" { // nothing is an answer, too
			files[p.Path] = p.Content
		}
	}
	t := tar.NewWriter(z)
	top := "report-" + r.Lab
	folders := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := pack(t, path.Join(top, name), files[name], made, folders); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}

// pack puts a file into the archive, after the folders that it is in.
func pack(t *tar.Writer, name string, content []byte, made time.Time, folders map[string]bool) error {
	for i, c := range name {
		if c != '/' || folders[name[:i]] {
			continue
		}
		folders[name[:i]] = true
		h := &tar.Header{Typeflag: tar.TypeDir, Name: name[:i+1], Mode: int64(folderMode), ModTime: made}
		if err := t.WriteHeader(h); err != nil {
			return fmt.Errorf("pack %s: %w", name, err)
		}
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(fileMode), Size: int64(len(content)), ModTime: made}
	err := t.WriteHeader(h)
	if err == nil {
		_, err = io.Copy(t, bytes.NewReader(content))
	}
	if err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	return nil
}

func (r *Report) lackingText() []byte {
	var b strings.Builder
	for _, p := range r.Lacking() {
		fmt.Fprintf(&b, "%s: %s: %s\n", p.Section, p.Title, p.Lacking)
	}
	if b.Len() == 0 {
		b.WriteString("nothing\n")
	}
	return []byte(b.String())
}
