package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// sumsFile says of each file of a release what it has to be, as sha256sum -c reads it.
const sumsFile = "SHA256SUMS"

// checksums are the lines of a folder's [sumsFile], sorted by name.
func checksums(dir string) ([]byte, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, f := range files {
		if f.Name() == sumsFile {
			continue
		}
		sum, err := sumOf(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&out, "%x  %s\n", sum, f.Name())
	}
	return out.Bytes(), nil
}

func sumOf(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return nil, err
	}
	return sum.Sum(nil), nil
}

// compare says each file in which two folders differ.
func compare(a, b string) error {
	sums := map[string]string{}
	var errs []error
	for _, dir := range []string{a, b} {
		files, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, f := range files {
			sum, err := sumOf(filepath.Join(dir, f.Name()))
			if err != nil {
				return err
			}
			before, there := sums[f.Name()]
			switch {
			case dir == a:
				sums[f.Name()] = string(sum)
			case !there:
				errs = append(errs, fmt.Errorf("%s is only in %s", f.Name(), b))
			case before != string(sum):
				errs = append(errs, fmt.Errorf("%s differs", f.Name()))
			}
			if dir == b {
				delete(sums, f.Name())
			}
		}
	}
	for name := range sums {
		errs = append(errs, fmt.Errorf("%s is only in %s", name, a))
	}
	return errors.Join(errs...)
}
