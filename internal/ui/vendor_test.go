package ui

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
)

// TestVendor holds the libraries that are embedded to what page/vendor.sh has taken from the packages that
// page/package-lock.json names, each with its licence. That those packages are what npm has, npm ci holds by their integrity.
func TestVendor(t *testing.T) {
	read := func(name string, into any) {
		t.Helper()
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	var list []struct{ File, Package, Version, Integrity, Path, SHA256 string }
	read("page/vendor/list.json", &list)
	var lock struct {
		Packages map[string]struct{ Version, Integrity, License string }
	}
	read("page/package-lock.json", &lock)
	const again = "run make page-vendor"

	listed, licences := map[string]string{"list.json": ""}, map[string]bool{}
	for _, l := range list {
		listed[l.File] = l.SHA256
		locked, ok := lock.Packages["node_modules/"+l.Package]
		if !ok || l.Version != locked.Version || l.Integrity != locked.Integrity || !strings.HasPrefix(l.Integrity, "sha512-") {
			t.Errorf("%s is of %s %s (%s), and the lock file has %+v: %s", l.File, l.Package, l.Version, l.Integrity, locked, again)
		}
		if locked.License != "MIT" {
			t.Errorf("%s has the licence %q: may it be here?", l.Package, locked.License)
		}
		if l.Path == "LICENSE" {
			licences[l.Package] = true
		}
	}
	for name := range lock.Packages {
		if name := strings.TrimPrefix(name, "node_modules/"); name != "" && !licences[name] {
			t.Errorf("the licence of %s is not there: %s", name, again)
		}
	}
	embedded, err := fs.Glob(files, "page/vendor/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range embedded {
		text, err := fs.ReadFile(files, file)
		if err != nil {
			t.Fatal(err)
		}
		want, ok := listed[path.Base(file)]
		sum := sha256.Sum256(text)
		if got := hex.EncodeToString(sum[:]); !ok || want != "" && got != want {
			t.Errorf("%s has the SHA-256 %s, and is listed with %q: %s", file, got, want, again)
		}
		delete(listed, path.Base(file))
	}
	if len(listed) > 0 {
		t.Errorf("listed and not there: %v: %s", listed, again)
	}
}
