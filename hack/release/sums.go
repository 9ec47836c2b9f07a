package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// sumsFile says of each file of a release what it has to be, as sha256sum -c reads it.
const sumsFile = "SHA256SUMS"

// checksums are the lines of a folder's [sumsFile], sorted by name.
func checksums(dir string) ([]byte, error) {
	sums, err := sumsIn(dir)
	if err != nil {
		return nil, err
	}
	delete(sums, sumsFile)
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(&out, "%x  %s\n", sums[name], name)
	}
	return out.Bytes(), nil
}

// sumsIn are the SHA-256 of a folder's files by their names.
func sumsIn(dir string) (map[string][sha256.Size]byte, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	sums := map[string][sha256.Size]byte{}
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		sums[f.Name()] = sha256.Sum256(content)
	}
	return sums, nil
}

// compare says each file in which two folders differ.
func compare(a, b string) error {
	first, err := sumsIn(a)
	if err != nil {
		return err
	}
	second, err := sumsIn(b)
	if err != nil {
		return err
	}
	var errs []error
	for name, sum := range first {
		switch other, there := second[name]; {
		case !there:
			errs = append(errs, fmt.Errorf("%s is only in %s", name, a))
		case other != sum:
			errs = append(errs, fmt.Errorf("%s differs", name))
		}
	}
	for name := range second {
		if _, there := first[name]; !there {
			errs = append(errs, fmt.Errorf("%s is only in %s", name, b))
		}
	}
	return errors.Join(errs...)
}
