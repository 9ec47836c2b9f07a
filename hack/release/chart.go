package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"time"
)

// chartVersions are the lines of a Chart.yaml that name the version.
var chartVersions = regexp.MustCompile(`(?m)^(version|appVersion): .*$`)

// packChart packs the chart in a folder of fsys as helm package does, with the versions of e. The same chart and time give the
// same bytes, which helm package does not.
func packChart(fsys fs.FS, dir string, e edition, at time.Time) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b) // whose header has no name and no time
	w := tar.NewWriter(z)
	err := fs.WalkDir(fsys, dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		if p == path.Join(dir, "Chart.yaml") {
			if content, err = stamp(content, e); err != nil {
				return err
			}
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: path.Join(path.Base(dir), p[len(dir):]), Mode: 0o644, Size: int64(len(content)), ModTime: at}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
	if err := errors.Join(err, w.Close(), z.Close()); err != nil {
		return nil, fmt.Errorf("pack the chart: %w", err)
	}
	return b.Bytes(), nil
}

// stamp puts the version into a Chart.yaml: appVersion is the tag of the images that it takes.
func stamp(chartYAML []byte, e edition) ([]byte, error) {
	if n := len(chartVersions.FindAll(chartYAML, -1)); n != 2 {
		return nil, fmt.Errorf("a Chart.yaml with %d lines with a version, want version and appVersion", n)
	}
	return chartVersions.ReplaceAllFunc(chartYAML, func(line []byte) []byte {
		if bytes.HasPrefix(line, []byte("appVersion")) {
			return []byte("appVersion: " + e.version)
		}
		return []byte("version: " + e.chart())
	}), nil
}
