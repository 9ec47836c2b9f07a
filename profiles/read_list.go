package profiles

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"

	"wirelab.dev/wirelab/internal/settings"
)

// list gives the items of y and whether it is a list at all.
func (r *reader) list(y *yaml.Node, path string) ([]*yaml.Node, bool) {
	if isNull(y) {
		r.bad(y, path, "has no value; write [] for an empty list")
		return nil, false
	}
	if y.Kind != yaml.SequenceNode {
		r.bad(y, path, "%s stands where a list belongs; each item is a line that starts with a dash", describe(y))
		return nil, false
	}
	if len(y.Content) > maxItems {
		r.bad(y, path, "has %d items; %d are the most", len(y.Content), maxItems)
		return nil, false
	}
	return y.Content, true
}

// maxItems bounds a list; those of real profiles have a handful.
const maxItems = 1000

func (r *reader) texts(y *yaml.Node, path string) (any, bool) {
	items, ok := r.list(y, path)
	if !ok {
		return nil, false
	}
	words := []string{}
	for i, item := range items {
		if r.full() {
			break
		}
		at := fmt.Sprintf("%s[%d]", path, i)
		r.layer.origins[at] = origin{source: r.source, line: item.Line}
		if item.Kind != yaml.ScalarNode || isNull(item) || item.Anchor != "" {
			r.bad(item, at, "%s stands where a text belongs", describe(item))
			continue
		}
		words = append(words, item.Value)
	}
	return words, true
}

func (r *reader) mirrors(n *settings.Key, y *yaml.Node, path string) (any, bool) {
	items, ok := r.list(y, path)
	if !ok {
		return nil, false
	}
	all := []RegistryMirror{}
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", path, i)
		if item.Anchor != "" || item.Kind == yaml.AliasNode {
			r.bad(item, at, "%s", noAnchors)
			continue
		}
		r.layer.origins[at] = origin{source: r.source, line: item.Line}
		values := r.section(n, item, at)
		r.demandRequired(n, values, at, item.Line)
		host, _ := values["host"].(string)
		endpoint, _ := values["endpoint"].(string)
		all = append(all, RegistryMirror{Host: host, Endpoint: endpoint})
	}
	return all, true
}

// demandRequired reports the keys that each file has to write itself.
func (r *reader) demandRequired(n *settings.Key, values map[string]any, path string, line int) {
	for _, c := range n.Below {
		full := settings.Join(path, c.Name)
		if c.Shape == settings.Section {
			below, _ := values[c.Name].(map[string]any)
			r.demandRequired(c, below, full, line)
			continue
		}
		if _, ok := values[c.Name]; ok || !c.Required || r.reported(full) {
			continue
		}
		want := c.Example
		if len(c.Allowed) > 0 {
			want = c.Allowed[0]
		}
		r.found.add(&Problem{Source: r.source, Line: line, Key: full, Message: "is missing; write one, such as " + c.Name + ": " + want})
	}
}

// reported says whether this file already has a problem with key, or a slip for it.
func (r *reader) reported(key string) bool {
	return slices.ContainsFunc(*r.found, func(p *Problem) bool { return p.Source == r.source && (p.Key == key || p.Nearest == key) })
}
