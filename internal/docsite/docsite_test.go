package docsite

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func build(t *testing.T, files map[string]string) (Site, error) {
	t.Helper()
	all := Files{}
	for name, text := range files {
		all[name] = []byte(text)
	}
	return Build(all)
}

func TestPages(t *testing.T) {
	site, err := build(t, map[string]string{
		"index.md":   "# Top\n\nWords.\n\n## First\n\n- [One `page`](sub/one.md): of two\n\n![a picture](p.svg)\n",
		"sub/one.md": "# One\n\n## Who & what\n\nSee [above](#who--what), [the top](../index.md#first) and [elsewhere](https://kubernetes.io/docs.md).\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```console\n$ lab up <profile>\n```\n",
		"p.svg":      "<svg/>",
	})
	if err != nil {
		t.Fatal(err)
	}
	page := string(site["sub/one.html"])
	for _, want := range []string{
		"<title>One · wirelab</title>", `href="../site.css"`, `<h2 id="who--what">Who &amp; what</h2>`, `href="#who--what"`, `href="../index.html#first"`,
		`href="https://kubernetes.io/docs.md"`, "<td>1</td>", "$ lab up &lt;profile&gt;", `<a href="../sub/one.html" aria-current="page">One page</a>`, "<h2>First</h2>",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %s:\n%s", want, page)
		}
	}
	if got := string(site["index.html"]); !strings.Contains(got, `<a href="sub/one.html">One page</a>`) || !strings.Contains(got, `src="p.svg"`) {
		t.Errorf("the front page:\n%s", got)
	}
	for _, want := range []string{`{"to":"sub/one.html#who--what","page":"One","head":"Who \u0026 what","text":"See above, the top and elsewhere. a b 1 2 $ lab up \u003cprofile\u003e"}`} {
		if got := string(site["search-index.js"]); !strings.Contains(got, want) {
			t.Errorf("the index has no %s:\n%s", want, got)
		}
	}
	if string(site["p.svg"]) != "<svg/>" || len(site["site.css"]) == 0 || len(site["search.js"]) == 0 {
		t.Error("a file is missing")
	}
}

func TestLinksThatLeadNowhere(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"no front page", map[string]string{"a.md": "# A\n"}, "there is no index.md"},
		{"a page that is not there", map[string]string{"index.md": "[b](b.md)\n"}, "index.md links to b.md, which is not there"},
		{"a picture that is not there", map[string]string{"index.md": "![b](b.svg)\n"}, "index.md links to b.svg, which is not there"},
		{"a heading that is not there", map[string]string{"index.md": "# A\n\n[b](a.md#b)\n", "a.md": "# A\n"}, "index.md links to a.md#b, and a.md has no such heading"},
		{"one of its own", map[string]string{"index.md": "# A\n\n[b](#b)\n"}, "index.md links to #b, and index.md has no such heading"},
		{"a page that nobody links to", map[string]string{"index.md": "# A\n", "a.md": "# A\n"}, "no page links to a.md"},
		{"out of the folder", map[string]string{"index.md": "[b](../README.md)\n"}, "which is not there"},
	} {
		if _, err := build(t, tt.files); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		}
	}
}

// TestPagesOfTheRepository: what the pages at its top link to is there, with its heading.
func TestPagesOfTheRepository(t *testing.T) {
	links := 0
	for _, name := range []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"} {
		top := filepath.Join("..", "..")
		source, err := os.ReadFile(filepath.Join(top, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range parse(name, source).links() {
			links++
			file, anchor, _ := strings.Cut(link, "#")
			if file == "" {
				file = name
			}
			target, err := os.ReadFile(filepath.Join(top, filepath.FromSlash(file)))
			if err != nil {
				t.Errorf("%s links to %s: %v", name, link, err)
			} else if anchor != "" && !parse(file, target).anchors[anchor] {
				t.Errorf("%s links to %s, which has no such heading", name, link)
			}
		}
	}
	if links < 20 {
		t.Errorf("these pages have %d links: this says nothing about them", links)
	}
}

func TestServed(t *testing.T) {
	site, err := build(t, map[string]string{"index.md": "# A\n\n![p](p.svg)\n", "p.svg": "<svg/>"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		code int
		kind string
	}{
		"/": {200, "text/html"}, "/index.html": {200, "text/html"}, "/p.svg": {200, "image/svg+xml"}, "/search.js": {200, "javascript"},
		"/none.html": {404, "text/plain"}, "/../docsite.go": {404, "text/plain"},
	} {
		w := httptest.NewRecorder()
		site.ServeHTTP(w, httptest.NewRequest("GET", name, nil))
		if w.Code != want.code || !strings.Contains(w.Header().Get("Content-Type"), want.kind) {
			t.Errorf("%s: %d, %s; want %d, %s", name, w.Code, w.Header().Get("Content-Type"), want.code, want.kind)
		}
		if w.Code == 200 && !strings.HasPrefix(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: pages may load from elsewhere", name)
		}
	}
}
