// Package docsite makes a site of static pages from Markdown. The site needs no server and no network: its links are
// relative, and its search is a script with the words of all pages.
package docsite

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// front is the page that a site begins with. Its headings and the links below them are the menu of all pages.
const front = "index.md"

var (
	//go:embed look/page.html
	layout string
	// look is what all pages load.
	//go:embed look/*.css look/*.js look/*.svg
	look embed.FS

	pageTemplate = template.Must(template.New("page").Parse(layout))
)

// Build makes the site of files: each page name.md becomes name.html, and what is no page stays as it is. The error
// joins one for each link that leads nowhere, and for each page that no link leads to.
func Build(files Files) (Site, error) {
	site := Site{}
	loaded, err := fs.Sub(look, "look")
	if err != nil {
		return nil, err
	}
	if err := Files(site).Add(loaded); err != nil {
		return nil, err
	}
	pages := map[string]*page{}
	for name, content := range files {
		if path.Ext(name) == ".md" {
			pages[name] = parse(name, content)
		} else {
			site[name] = content
		}
	}
	if pages[front] == nil {
		return nil, fmt.Errorf("make the site: there is no %s", front)
	}
	if err := check(pages, Files(site)); err != nil {
		return nil, fmt.Errorf("make the site: %w", err)
	}
	menu := pages[front].menu()
	var index []section
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		p := pages[name]
		html, err := p.html()
		if err != nil {
			return nil, fmt.Errorf("make the site: %w", err)
		}
		var out bytes.Buffer
		if err := pageTemplate.Execute(&out, map[string]any{
			"Title": p.title, "Root": p.root(), "Here": p.target(), "Menu": menu,
			"Body": template.HTML(html), //nolint:gosec // made of our own pages
		}); err != nil {
			return nil, fmt.Errorf("make page %s: %w", name, err)
		}
		site[p.target()] = out.Bytes()
		index = append(index, p.sections()...)
	}
	words, err := json.Marshal(index)
	if err != nil {
		return nil, fmt.Errorf("make the index of the site: %w", err)
	}
	site["search-index.js"] = slices.Concat([]byte("const sections = "), words, []byte(";\n"))
	return site, nil
}

// check tells what leads nowhere, and what is not led to.
func check(pages map[string]*page, others Files) error {
	var errs []error
	reached := map[string]bool{front: true}
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		for _, link := range pages[name].links() {
			file, anchor, _ := strings.Cut(link, "#")
			to := path.Join(path.Dir(name), file)
			if file == "" {
				to = name
			}
			reached[to] = true
			target, isPage := pages[to]
			_, isFile := others[to]
			switch {
			case !isPage && !isFile:
				errs = append(errs, fmt.Errorf("%s links to %s, which is not there", name, link))
			case anchor != "" && isPage && !target.anchors[anchor]:
				errs = append(errs, fmt.Errorf("%s links to %s, and %s has no such heading", name, link, to))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		if !reached[name] {
			errs = append(errs, fmt.Errorf("no page links to %s", name))
		}
	}
	return errors.Join(errs...)
}
