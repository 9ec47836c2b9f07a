package verify

import (
	"bytes"
	"strings"
	"testing"
)

func markdown(t *testing.T, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestMarkdownStaysWhatItIs: no text of a result ends a table's row or a block of evidence, or is taken for Markdown.
func TestMarkdownStaysWhatItIs(t *testing.T) {
	r := sampleReport()
	r.Results[0].Claim = "A | B is <b>*not*</b>\nlab_host `c`"
	r.Results[1].Wrong[0].Seen = "```\n| x |\n````"
	got := markdown(t, r)
	if want := "| `paths/arp` | 0.1s | A \\| B is \\<b\\>\\*not\\*\\</b\\> lab\\_host \\`c\\` |\n"; !strings.Contains(got, want) {
		t.Errorf("no row %s in\n%s", want, got)
	}
	if strings.Count(got, "`````text\n") != 1 || strings.Count(got, "\n`````\n") != 1 {
		t.Errorf("the evidence is not in a block of its own:\n%s", got)
	}
}

// TestMarkdownBegins: with what a person looks for first.
func TestMarkdownBegins(t *testing.T) {
	r := sampleReport()
	if got := markdown(t, r); !strings.HasPrefix(got, "## Lab kubeproxy: 1 of 3 checks failed, and 1 could not look\n") {
		t.Errorf("it begins with %.80q", got)
	}
	r.Results = r.Results[:2]
	if got := markdown(t, r); !strings.HasPrefix(got, "## Lab kubeproxy: 1 of 2 checks failed\n") {
		t.Errorf("it begins with %.80q", got)
	}
	r.Results = r.Results[:1]
	if got := markdown(t, r); !strings.HasPrefix(got, "## Lab kubeproxy: 1 checks passed\n") || strings.Contains(got, "FAIL") {
		t.Errorf("of a lab that is fine: %s", got)
	}
}
