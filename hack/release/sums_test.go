package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestChecksums(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "b"), "")
	writeFile(t, filepath.Join(dir, "a"), "abc")
	writeFile(t, filepath.Join(dir, sumsFile), "old")
	got, err := checksums(dir)
	// The first is of FIPS 180-4, the second that of nothing.
	want := "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n" +
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  b\n"
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestCompare(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		writeFile(t, filepath.Join(dir, "same"), "same")
	}
	if err := compare(a, b); err != nil {
		t.Error(err)
	}
	writeFile(t, filepath.Join(a, "lab"), "one")
	writeFile(t, filepath.Join(b, "lab"), "two")
	writeFile(t, filepath.Join(a, "first"), "")
	writeFile(t, filepath.Join(b, "second"), "")
	err := compare(a, b)
	for _, want := range []string{"lab differs", "first is only in " + a, "second is only in " + b} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v, want %s", err, want)
		}
	}
}
