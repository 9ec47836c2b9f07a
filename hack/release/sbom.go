package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

// bom is what is read and written of a CycloneDX document, version 1.6, in JSON.
type bom struct {
	Schema       string         `json:"$schema,omitempty"`
	Format       string         `json:"bomFormat"`
	SpecVersion  string         `json:"specVersion"`
	Version      int            `json:"version"`
	Metadata     map[string]any `json:"metadata"`
	Components   []component    `json:"components"`
	Dependencies []dependency   `json:"dependencies"`
}

type component map[string]any

func (c component) ref() string {
	ref, _ := c["bom-ref"].(string)
	return ref
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn,omitempty"`
}

// about is the component that a document is about; nil where it is about none.
func (b *bom) about() component {
	c, _ := b.Metadata["component"].(map[string]any)
	return c
}

// mergeBOMs makes one document, about the first program, of those of several, which that program carries as it carries the Debian
// packages that the demo's tools are of. It has the time of the commit, and nothing that is another on each machine: no serial
// number, and no hash of the tool that wrote it.
func mergeBOMs(documents [][]byte, packages []component, at time.Time) ([]byte, error) {
	var out bom
	components, dependencies := map[string]component{}, map[string]map[string]bool{}
	carried := slices.Clone(packages)
	for i, document := range documents {
		var b bom
		if err := json.Unmarshal(document, &b); err != nil {
			return nil, fmt.Errorf("read an SBOM: %w", err)
		}
		switch {
		case b.about().ref() == "":
			return nil, errors.New("an SBOM does not say what it is about")
		case i == 0:
			out = b
		default:
			carried = append(carried, b.about())
		}
		for _, c := range b.Components {
			components[c.ref()] = c
		}
		for _, d := range b.Dependencies {
			if dependencies[d.Ref] == nil {
				dependencies[d.Ref] = map[string]bool{}
			}
			for _, on := range d.DependsOn {
				dependencies[d.Ref][on] = true
			}
		}
	}
	for _, c := range carried {
		components[c.ref()] = c
		dependencies[out.about().ref()][c.ref()] = true
	}
	tools, _ := out.Metadata["tools"].([]any)
	for _, tool := range tools {
		if tool, ok := tool.(map[string]any); ok {
			delete(tool, "hashes")
		}
	}
	out.Metadata["timestamp"] = at.UTC().Format(time.RFC3339)
	out.Components = slices.SortedFunc(maps.Values(components), func(a, b component) int { return cmp.Compare(a.ref(), b.ref()) })
	out.Dependencies = nil
	for _, ref := range slices.Sorted(maps.Keys(dependencies)) {
		out.Dependencies = append(out.Dependencies, dependency{ref, slices.Sorted(maps.Keys(dependencies[ref]))})
	}
	b, err := json.MarshalIndent(out, "", "  ")
	return append(b, '\n'), err
}

// packageList is where images/demo/build.sh notes which packages it has taken, a name=version a line.
const packageList = "usr/share/doc/wirelab-demo/packages"

// debianPackages are those that a layer of the demo's tools is made of. distribution is the ID of os-release.
func debianPackages(layer io.Reader, distribution, arch string) ([]component, error) {
	r := tar.NewReader(layer)
	for {
		h, err := r.Next()
		if err != nil {
			return nil, fmt.Errorf("find %s in the demo's tools: %w", packageList, err)
		}
		if path.Clean(h.Name) == packageList {
			break
		}
	}
	var list bytes.Buffer
	if _, err := list.ReadFrom(r); err != nil {
		return nil, fmt.Errorf("read the demo's tools: %w", err)
	}
	var all []component
	for line := range strings.Lines(list.String()) {
		name, version, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			return nil, fmt.Errorf("%s of the demo's tools has %q, want name=version", packageList, line)
		}
		purl := fmt.Sprintf("pkg:deb/%s/%s@%s?arch=%s", distribution, url.PathEscape(name), url.QueryEscape(version), arch)
		all = append(all, component{"bom-ref": purl, "type": "library", "name": name, "version": version, "purl": purl})
	}
	return all, nil
}
