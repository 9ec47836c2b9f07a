package kubeconfig

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"go.yaml.in/yaml/v3"
	"k8s.io/client-go/tools/clientcmd"
)

// document is the content of one kubeconfig file. It is changed entry by entry and written back with everything that is not
// ours as it was: order, comments, keys that nobody here knows.
type document struct {
	doc     *yaml.Node
	changed bool
}

// parse reads a file's content as kubectl would, and refuses what kubectl would refuse.
func parse(content []byte) (*document, error) {
	if _, err := clientcmd.Load(content); err != nil {
		return nil, err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var doc, second yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return empty(), nil
	case err != nil:
		return nil, err
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("it holds more than one document")
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return empty(), nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, errors.New("it is no mapping of keys to values")
	}
	return &document{doc: &doc}, nil
}

func empty() *document {
	root := &yaml.Node{Kind: yaml.MappingNode}
	d := &document{doc: &yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{root}}}
	setKey(root, "apiVersion", text("v1"))
	setKey(root, "kind", text("Config"))
	return d
}

func (d *document) bytes() ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	e.CompactSeqIndent()
	if err := errors.Join(e.Encode(d.doc), e.Close()); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	return b.Bytes(), nil
}

func (d *document) root() *yaml.Node { return d.doc.Content[0] }

// lists are the parts of a kubeconfig that are found by name, each with the key that an entry keeps its content under.
var lists = [...]struct{ list, content string }{{"clusters", "cluster"}, {"users", "user"}, {"contexts", "context"}}

// entries are those of one list. Nil when there is none.
func (d *document) entries(list string) *yaml.Node {
	n := resolve(key(d.root(), list))
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n
}

// entry finds an entry by name.
func (d *document) entry(list, name string) *yaml.Node {
	all := d.entries(list)
	if all == nil {
		return nil
	}
	i := slices.IndexFunc(all.Content, func(e *yaml.Node) bool { return value(key(resolve(e), "name")) == name })
	if i < 0 {
		return nil
	}
	return resolve(all.Content[i])
}

// set puts an entry in place of that of its name, or at the end of its list.
func (d *document) set(list, name string, entry *yaml.Node) {
	d.changed = true
	all := d.entries(list)
	if all == nil {
		all = &yaml.Node{Kind: yaml.SequenceNode}
		setKey(d.root(), list, all)
	}
	if len(all.Content) == 0 && d.root().Style&yaml.FlowStyle == 0 {
		all.Style = 0 // [] was the way to write none
	}
	i := slices.IndexFunc(all.Content, func(e *yaml.Node) bool { return value(key(resolve(e), "name")) == name })
	if i < 0 {
		all.Content = append(all.Content, entry)
		return
	}
	all.Content[i] = entry
}

// remove takes an entry out, were it there more than once.
func (d *document) remove(list, name string) {
	all := d.entries(list)
	if all == nil {
		return
	}
	before := len(all.Content)
	all.Content = slices.DeleteFunc(all.Content, func(e *yaml.Node) bool { return value(key(resolve(e), "name")) == name })
	if len(all.Content) == before {
		return
	}
	d.changed = true
	if len(all.Content) == 0 {
		all.Style = yaml.FlowStyle
	}
}

const currentKey = "current-context"

func (d *document) current() string { return value(key(d.root(), currentKey)) }

func (d *document) setCurrent(name string) {
	if d.current() != name {
		setKey(d.root(), currentKey, text(name))
		d.changed = true
	}
}

// names tells whether the context called name is anywhere in it, its cluster and user included.
func (d *document) names(name string) bool {
	for _, l := range lists {
		if d.entry(l.list, name) != nil {
			return true
		}
	}
	return d.current() == name || d.redirect(name, name)
}

// extensionName marks the extension of a lab's context that remembers which context was current before.
const extensionName = "wirelab.dev/lab"

// before is the context that was current when the context called name was put here; empty when none was or nobody knows.
func (d *document) before(name string) string {
	ext := d.extension(d.entry("contexts", name))
	return value(key(resolve(ext), "before"))
}

// extension is the content of our extension of a context.
func (d *document) extension(context *yaml.Node) *yaml.Node {
	all := resolve(key(resolve(key(context, "context")), "extensions"))
	if all == nil || all.Kind != yaml.SequenceNode {
		return nil
	}
	for _, e := range all.Content {
		if value(key(resolve(e), "name")) == extensionName {
			return resolve(key(resolve(e), "extension"))
		}
	}
	return nil
}

// remember notes in a context's entry which context was current before.
func remember(context *yaml.Node, before string) {
	content := resolve(key(context, "context"))
	if content == nil || content.Kind != yaml.MappingNode {
		return
	}
	ext := &yaml.Node{Kind: yaml.MappingNode}
	setKey(ext, "before", text(before))
	item := &yaml.Node{Kind: yaml.MappingNode}
	setKey(item, "extension", ext)
	setKey(item, "name", text(extensionName))
	setKey(content, "extensions", &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{item}})
}

// redirect makes contexts that remember from remember to, and tells whether there are any.
func (d *document) redirect(from, to string) (any bool) {
	all := d.entries("contexts")
	if all == nil {
		return false
	}
	for _, e := range all.Content {
		if ext := d.extension(resolve(e)); ext != nil && value(key(ext, "before")) == from {
			setKey(ext, "before", text(to))
			d.changed, any = true, true
		}
	}
	return any
}

// key is the value of a key of a mapping, nil when there is none.
func key(mapping *yaml.Node, name string) *yaml.Node {
	if mapping == nil || mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func setKey(mapping *yaml.Node, name string, v *yaml.Node) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			mapping.Content[i+1] = v
			return
		}
	}
	mapping.Content = append(mapping.Content, text(name), v)
}

func text(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}

// value is a scalar's text, empty for anything else.
func value(n *yaml.Node) string {
	n = resolve(n)
	if n == nil || n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return ""
	}
	return n.Value
}

// resolve follows an alias.
func resolve(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}
