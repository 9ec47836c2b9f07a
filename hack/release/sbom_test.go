package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// TestMergeBOMs: each module is in it once, with what any of the programs needs of it, in one order.
func TestMergeBOMs(t *testing.T) {
	program := func(name string, components ...string) []byte {
		b := bom{Format: "CycloneDX", SpecVersion: "1.6", Version: 1, Metadata: map[string]any{
			"component": component{"bom-ref": name},
			"tools":     []any{map[string]any{"name": "tool", "hashes": []string{name}}},
		}}
		for _, c := range components {
			b.Components = append(b.Components, component{"bom-ref": c, "name": c})
		}
		b.Dependencies = []dependency{{name, components}, {components[0], nil}}
		out, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	packages := []component{{"bom-ref": "pkg:deb/x"}}
	got, err := mergeBOMs([][]byte{program("lab", "b", "c"), program("agent", "a", "b")}, packages, at)
	if err != nil {
		t.Fatal(err)
	}
	var b bom
	if err := json.Unmarshal(got, &b); err != nil {
		t.Fatal(err)
	}
	var refs []string
	for _, c := range b.Components {
		refs = append(refs, c.ref())
	}
	if want := []string{"a", "agent", "b", "c", "pkg:deb/x"}; !slices.Equal(refs, want) {
		t.Errorf("components = %v, want %v", refs, want)
	}
	for ref, want := range map[string][]string{"lab": {"agent", "b", "c", "pkg:deb/x"}, "agent": {"a", "b"}} {
		i := slices.IndexFunc(b.Dependencies, func(d dependency) bool { return d.Ref == ref })
		if i < 0 || !slices.Equal(b.Dependencies[i].DependsOn, want) {
			t.Errorf("dependencies = %+v, want %s with %v", b.Dependencies, ref, want)
		}
	}
	if b.about().ref() != "lab" || b.Metadata["timestamp"] != "2026-01-31T22:59:58Z" || bytes.Contains(got, []byte("hashes")) {
		t.Errorf("metadata = %v", b.Metadata)
	}
	for range 20 {
		again, err := mergeBOMs([][]byte{program("lab", "b", "c"), program("agent", "a", "b")}, packages, at)
		if err != nil || !bytes.Equal(got, again) {
			t.Fatalf("merged once more it is another (%v)", err)
		}
	}
	if _, err := mergeBOMs([][]byte{[]byte(`{"metadata": {}}`)}, nil, at); err == nil {
		t.Error("a document about nothing is taken")
	}
}

func TestDebianPackages(t *testing.T) {
	layer := func(name, list string) *bytes.Buffer {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, err := range []error{
			w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(list))}),
			func() error { _, err := w.Write([]byte(list)); return err }(),
			w.Close(),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return &b
	}
	got, err := debianPackages(layer("./"+packageList, "libattr1=1:2.5.1-4\nlibstdc++6=12.2.0-14\n"), "debian", "arm64")
	if err != nil || len(got) != 2 {
		t.Fatalf("got %v, %v", got, err)
	}
	if got[0]["purl"] != "pkg:deb/debian/libattr1@1%3A2.5.1-4?arch=arm64" || got[1]["name"] != "libstdc++6" || got[1]["version"] != "12.2.0-14" {
		t.Errorf("got %v", got)
	}
	if _, err := debianPackages(layer("other", ""), "debian", "arm64"); err == nil || !strings.Contains(err.Error(), packageList) {
		t.Errorf("without a list: %v", err)
	}
	if _, err := debianPackages(layer(packageList, "tcpdump\n"), "debian", "arm64"); err == nil {
		t.Error("a package without a version is taken")
	}
}
