package draw

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wirelab.dev/wirelab/labs/passport"
)

var update = flag.Bool("update", false, "draw the pictures of the docs anew")

// TestPictures holds the pictures of the docs against the passports beside them, which `make docs-pictures` takes from labs.
// Each passport has a whole picture; a small one is kept where the README shows it.
func TestPictures(t *testing.T) {
	const folder = "../../../docs/pictures"
	files, err := filepath.Glob(folder + "/*.json")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d passports, want one of each mode and the tunnel: %v", len(files), err)
	}
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	drawn := map[string]bool{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		var p passport.Passport
		if err == nil {
			err = json.Unmarshal(b, &p)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		base := strings.TrimSuffix(file, ".json")
		for name, want := range map[string][]byte{base + ".svg": Passport(p), base + "-small.svg": Small(p)} {
			legible(t, read(t, want))
			if strings.HasSuffix(name, "-small.svg") && !bytes.Contains(readme, []byte("docs/pictures/"+filepath.Base(name))) {
				continue
			}
			drawn[name] = true
			if *update {
				if err := os.WriteFile(name, want, 0o644); err != nil { //nolint:gosec // it is for all to read
					t.Fatal(err)
				}
			}
			if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s is not what its passport says: go test ./labs/passport/draw -run TestPictures -update draws it (%v)", name, err)
			}
		}
	}
	pictures, err := filepath.Glob(folder + "/*.svg")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range pictures {
		if !drawn[name] {
			t.Errorf("%s has no passport, or is small and not in the README", name)
		}
	}
	if small, err := filepath.Glob(folder + "/*-small.svg"); err != nil || len(small) != 2 {
		t.Errorf("small pictures: %q (%v), want the two that the README compares", small, err)
	}
}
