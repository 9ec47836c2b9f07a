package main

import (
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"
)

const commit = "0123456789abcdef0123456789abcdef01234567"

var at = time.Date(2026, 1, 31, 23, 59, 58, 0, time.FixedZone("", 3600))

func TestEdition(t *testing.T) {
	for name, c := range map[string]struct{ changelog, version, notes, err string }{
		"before the first release": {"# Changes\n\nhead\n\n## Next\n\n### New\n\n- a\n", "v0.0.0-20260131225958-0123456789ab", "### New\n\n- a\n", ""},
		"after a release":          {"## Next\n\n- b\n\n## 0.1.0 - 2026-01-01\n\n- a\n", "v0.1.1-0.20260131225958-0123456789ab", "- b\n", ""},
		"after a candidate":        {"## Next\n- b\n## 0.1.0-rc.1\n- a\n", "v0.1.0-rc.1.0.20260131225958-0123456789ab", "- b\n", ""},
		"a release":                {"## 0.2.0 - 2026-01-31\n\n- b\n\n## 0.1.0\n\n- a\n", "v0.2.0", "- b\n", ""},
		"a v and brackets":         {"## [v0.2.0]\n- b\n", "v0.2.0", "- b\n", ""},
		"a release of a candidate": {"## 0.2.0\n- b\n## 0.2.0-rc.1\n- a\n", "v0.2.0", "- b\n", ""},
		"no heading":               {"# Changes\n\n- a\n", "", "", "has no part"},
		"nothing at all":           {"", "", "", "has no part"},
		"another heading":          {"## Soon\n- a\n", "", "", `begins with "## Soon": make it "## Next"`},
		"nothing new":              {"## Next\n\n### New\n\n## 0.1.0\n- a\n", "", "", `says nothing below "## Next": write there`},
		"an empty release":         {"## 0.1.0\n\n", "", "", `says nothing below "## 0.1.0"`},
		"not newer":                {"## 0.1.0\n- b\n## 0.1.0\n- a\n", "", "", "0.1.0 above 0.1.0"},
		"no version":               {"## 0.1\n- a\n", "", "", `begins with "## 0.1"`},
		"a version with metadata":  {"## 0.1.0+x\n- a\n", "", "", "with a +"},
		"next twice":               {"## Next\n- a\n## Next\n- b\n", "", "", "the version of the release before"},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := editionOf(c.changelog, commit, at)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error = %v, want %s", err, c.err)
				}
				return
			}
			if err != nil || e.version != c.version || e.notes != c.notes {
				t.Errorf("got %+v (%v), want %s with %q", e, err, c.version, c.notes)
			}
			if _, err := semver.StrictNewVersion(e.chart()); err != nil {
				t.Errorf("Helm does not take %s: %v", e.chart(), err)
			}
		})
	}
}

// TestVersionsRise: a commit after a release is newer than that, and older than the next one.
func TestVersionsRise(t *testing.T) {
	after, err := editionOf("## Next\n- b\n## 0.1.0\n- a\n", commit, at)
	if err != nil {
		t.Fatal(err)
	}
	later, err := editionOf("## Next\n- b\n## 0.1.0\n- a\n", commit, at.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	rising := []string{"0.1.0-rc.1", "0.1.0", after.chart(), later.chart(), "0.1.1"}
	for i := range rising[1:] {
		if !semver.MustParse(rising[i+1]).GreaterThan(semver.MustParse(rising[i])) {
			t.Errorf("%s is not above %s", rising[i+1], rising[i])
		}
	}
}
