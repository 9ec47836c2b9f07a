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
func TestPictures(t *testing.T) {
	const folder = "../../../docs/pictures"
	files, err := filepath.Glob(folder + "/*.json")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d passports, want one of each mode and the tunnel: %v", len(files), err)
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
			drawn[name] = true
			legible(t, read(t, want))
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
			t.Errorf("%s has no passport", name)
		}
	}
}
