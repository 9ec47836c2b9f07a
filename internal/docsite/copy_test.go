package docsite

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/browsertest"
)

// TestCopies: a click on a prompt copies the command behind it, as it is to be pasted, and neither a prompt nor what was printed.
func TestCopies(t *testing.T) {
	site, err := build(t, map[string]string{"index.md": "# A\n\n```console\n$ on() {\n>   lab shell \"$1\" # > $\n> }\nnothing\n> no command\n$ on worker\n```\n\n```sh\nlab up ebpf\nlab down ebpf\n```\n"})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(site)
	defer server.Close()
	b := browsertest.Open(t, server.URL)
	if n := browsertest.Ask[int](b, `document.querySelectorAll("pre button").length`); n != 3 {
		t.Errorf("the page has %d buttons, want one for each of two commands and one for a block", n)
	}
	browsertest.Ask[bool](b, `Object.defineProperty(navigator, "clipboard", {value: {writeText: async (text) => { window.copied = text; }}}); true`)
	for i, want := range []string{`on() {\n  lab shell "$1" # > $\n}`, `on worker`, `lab up ebpf\nlab down ebpf\n`} {
		browsertest.Ask[bool](b, fmt.Sprintf(`document.querySelectorAll("pre button")[%d].click(); true`, i))
		b.Within(10*time.Second, "the text to be copied", "window.copied === '"+want+"'")
	}
	b.Within(10*time.Second, "the block as it is in the page's source", `document.querySelector("pre").innerText.startsWith('$ on() {\n>   lab shell "$1" # > $\n> }\nnothing\n> no command\n$ on worker')`)
}
