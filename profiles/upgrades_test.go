package profiles

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"wirelab.dev/wirelab/internal/pagetest"
	"wirelab.dev/wirelab/internal/settings"
)

// TestEverySettingStaysOrChanges: of each setting that can be set the table says what comes of changing it in a lab that is up, or
// why it cannot change there. One that cannot be set says neither.
func TestEverySettingStaysOrChanges(t *testing.T) {
	newSchema().Walk(func(n *settings.Key) {
		if says := (n.Live != "") != (n.Stays != ""); says != n.Settable() {
			t.Errorf("%s can be set: %t, and says of a lab that is up: can change %q, stays %q", n.Path, n.Settable(), n.Live, n.Stays)
		}
	})
}

// TestUpgradesAreDocumented holds the page's tables against the table of keys.
func TestUpgradesAreDocumented(t *testing.T) {
	want := "| can change | what comes of it |\n|---|---|\n" + keysBy(func(n *settings.Key) string { return n.Live }) +
		"\n| stays | because |\n|---|---|\n" + keysBy(func(n *settings.Key) string { return n.Stays })
	pagetest.Hold(t, "../docs/upgrades.md", "settings", "go test ./profiles -update", want, *update)
}

// keysBy are rows of the settings of which the same is said.
func keysBy(said func(*settings.Key) string) string {
	keys, order := map[string][]string{}, []string{}
	for _, n := range newSchema().Settings() {
		text := said(n)
		if text == "" {
			continue
		}
		if !slices.Contains(order, text) {
			order = append(order, text)
		}
		keys[text] = append(keys[text], "`"+n.Path+"`")
	}
	var b strings.Builder
	for _, text := range order {
		fmt.Fprintf(&b, "| %s | %s |\n", strings.Join(keys[text], ", "), text)
	}
	return b.String()
}
