package docsite

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
)

// markdown reads what GitHub reads: tables, links in plain text, and headings with an anchor each. HTML in a page stays.
var markdown = goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithParserOptions(parser.WithAutoHeadingID()),
	goldmark.WithRendererOptions(html.WithUnsafe()))

// page is one page in Markdown.
type page struct {
	name    string // its path, with slashes
	source  []byte
	tree    ast.Node
	title   string
	anchors map[string]bool // of its headings
}

func parse(name string, source []byte) *page {
	p := &page{name: name, source: source, tree: markdown.Parser().Parse(text.NewReader(source)), anchors: map[string]bool{}}
	p.walk(func(n ast.Node) {
		h, is := n.(*ast.Heading)
		if !is {
			return
		}
		if id, has := h.AttributeString("id"); has {
			p.anchors[string(id.([]byte))] = true
		}
		if p.title == "" {
			p.title = p.textOf(h)
		}
	})
	return p
}

func (p *page) walk(visit func(ast.Node)) {
	_ = ast.Walk(p.tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) { // visit returns no error
		if entering {
			visit(n)
		}
		return ast.WalkContinue, nil
	})
}

// target is the name of the page in the site.
func (p *page) target() string { return html5(p.name) }

func html5(name string) string { return strings.TrimSuffix(name, ".md") + ".html" }

// root leads from the page to the site's top: "" or "../" for each folder.
func (p *page) root() string { return strings.Repeat("../", strings.Count(p.name, "/")) }

// links are where links and pictures of the page lead in the site, as they are written.
func (p *page) links() (all []string) {
	p.walk(func(n ast.Node) {
		switch n := n.(type) {
		case *ast.Link:
			all = append(all, string(n.Destination))
		case *ast.Image:
			all = append(all, string(n.Destination))
		}
	})
	return slices.DeleteFunc(all, func(link string) bool { return strings.Contains(link, "://") })
}

// html is the page's body, in which links to pages lead to what these become.
func (p *page) html() ([]byte, error) {
	p.walk(func(n ast.Node) {
		link, is := n.(*ast.Link)
		if !is || bytes.Contains(link.Destination, []byte("://")) {
			return
		}
		if file, anchor, has := strings.Cut(string(link.Destination), "#"); path.Ext(file) == ".md" {
			link.Destination = []byte(html5(file))
			if has {
				link.Destination = append(link.Destination, "#"+anchor...)
			}
		}
	})
	var out bytes.Buffer
	if err := markdown.Renderer().Render(&out, p.source, p.tree); err != nil {
		return nil, fmt.Errorf("render %s: %w", p.name, err)
	}
	return out.Bytes(), nil
}

// group is a heading of the menu with the pages below it.
type group struct {
	Title   string
	Entries []entry
}

type entry struct{ Title, Target string }

// menu is what the page's headings and the links of the lists below them make of it.
func (p *page) menu() (groups []group) {
	p.walk(func(n ast.Node) {
		switch n := n.(type) {
		case *ast.Heading:
			if n.Level == 2 {
				groups = append(groups, group{Title: p.textOf(n)})
			}
		case *ast.Link:
			if last := len(groups) - 1; last >= 0 {
				groups[last].Entries = append(groups[last].Entries, entry{p.textOf(n), html5(string(n.Destination))})
			}
		}
	})
	return groups
}

// section is what a search finds: a heading and the words below it, up to the next one.
type section struct {
	Target  string `json:"to"`   // page and anchor
	Page    string `json:"page"` // title of the page
	Heading string `json:"head"` // empty above the first heading of the second level
	Text    string `json:"text"`
}

func (p *page) sections() []section {
	all := []section{{Target: p.target(), Page: p.title}}
	for n := p.tree.FirstChild(); n != nil; n = n.NextSibling() {
		if h, is := n.(*ast.Heading); is && n != p.tree.FirstChild() {
			s := section{Target: p.target(), Page: p.title, Heading: p.textOf(h)}
			if id, has := h.AttributeString("id"); has {
				s.Target += "#" + string(id.([]byte))
			}
			all = append(all, s)
			continue
		}
		last := &all[len(all)-1]
		last.Text = strings.TrimSpace(last.Text + " " + p.textOf(n))
	}
	return all
}

// textOf is the words of a node, without marks and in one line.
func (p *page) textOf(of ast.Node) string {
	var b strings.Builder
	_ = ast.Walk(of, func(n ast.Node, entering bool) (ast.WalkStatus, error) { // no error is returned
		switch n := n.(type) {
		case *ast.Text:
			if entering {
				b.Write(n.Value(p.source))
				if n.SoftLineBreak() || n.HardLineBreak() {
					b.WriteByte(' ')
				}
			}
		case *ast.FencedCodeBlock, *ast.CodeBlock:
			if entering {
				b.Write(n.Lines().Value(p.source))
			}
		default:
			if n.Type() == ast.TypeBlock {
				b.WriteByte(' ') // what follows is another paragraph, or another cell
			}
		}
		return ast.WalkContinue, nil
	})
	return strings.Join(strings.Fields(b.String()), " ")
}
