package ui

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestFilterExample holds the example in the filter to a reason that packets are dropped for, as the pages list them.
func TestFilterExample(t *testing.T) {
	page, err := os.ReadFile("page/index.html")
	if err != nil {
		t.Fatal(err)
	}
	reasons, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile(`placeholder="[^"]*reason:([a-z-]+)`).FindSubmatch(page)
	if example == nil {
		t.Fatal("the filter has no example of a reason")
	}
	if row := "| `" + string(example[1]) + "` | dropped: "; !strings.Contains(string(reasons), row) {
		t.Errorf("docs/architecture.md has no row %q", row)
	}
}
