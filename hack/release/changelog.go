package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
)

// next is the heading of what has not been released yet.
const next = "Next"

// edition is what a commit is released as.
type edition struct {
	version string // with a v
	notes   string // Markdown, what is new in it
}

// chart is the version as charts have it, without the v.
func (e edition) chart() string { return strings.TrimPrefix(e.version, "v") }

// part is what a changelog has below one of its headings of the second level.
type part struct{ title, body string }

func parts(changelog string) []part {
	var all []part
	for line := range strings.Lines(changelog) {
		title, found := strings.CutPrefix(line, "## ")
		switch {
		case found:
			all = append(all, part{title: strings.TrimSpace(title)})
		case len(all) > 0:
			all[len(all)-1].body += line
		}
	}
	return all
}

// says tells whether there is more than headings.
func (p part) says() bool {
	for line := range strings.Lines(p.body) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return true
		}
	}
	return false
}

// version is that of the part's heading, as in "0.1.0 - 2026-01-31"; nil where it is none.
func (p part) version() *semver.Version {
	word, _, _ := strings.Cut(p.title, " ")
	v, err := semver.StrictNewVersion(strings.TrimPrefix(strings.Trim(word, "[]"), "v"))
	if err != nil {
		return nil
	}
	return v
}

// editionOf reads off a changelog what a commit is released as: the version of its first heading, or, below "Next", a version
// of that commit alone, which comes after the release before.
func editionOf(changelog, commit string, at time.Time) (edition, error) {
	all := parts(changelog)
	if len(all) == 0 {
		return edition{}, fmt.Errorf("CHANGELOG.md has no part: begin one by the line %q, or %q for a release", "## "+next, "## 0.1.0")
	}
	first := all[0]
	v := first.version()
	if v == nil && first.title != next {
		return edition{}, fmt.Errorf("CHANGELOG.md begins with %q: make it %q, or %q for a release", "## "+first.title, "## "+next, "## 0.1.0")
	}
	if !first.says() {
		return edition{}, fmt.Errorf("CHANGELOG.md says nothing below %q: write there what is new, as that becomes the release's notes", "## "+first.title)
	}
	var before *semver.Version
	if len(all) > 1 {
		if before = all[1].version(); before == nil {
			return edition{}, fmt.Errorf("CHANGELOG.md has %q below its first part: make it the version of the release before", "## "+all[1].title)
		}
	}
	notes := strings.TrimSpace(first.body) + "\n"
	if v == nil {
		return edition{version: ofCommit(before, commit, at), notes: notes}, nil
	}
	if before != nil && !v.GreaterThan(before) {
		return edition{}, fmt.Errorf("CHANGELOG.md has %s above %s: the newer version is the one above", v, before)
	}
	if v.Metadata() != "" {
		return edition{}, errors.New("CHANGELOG.md has a version with a +, which images cannot have as their tag: leave out what follows it")
	}
	return edition{version: "v" + v.String(), notes: notes}, nil
}

// ofCommit is the version of a commit after a release, or before the first one, as Go forms them: https://go.dev/ref/mod#pseudo-versions
func ofCommit(before *semver.Version, commit string, at time.Time) string {
	base := "v0.0.0-"
	switch {
	case before == nil:
	case before.Prerelease() != "":
		base = "v" + before.String() + ".0."
	default:
		base = "v" + before.IncPatch().String() + "-0."
	}
	return base + at.UTC().Format("20060102150405") + "-" + commit[:12]
}
