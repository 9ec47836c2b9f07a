package profiles

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
)

// shape is what a key holds.
type shape int

const (
	section shape = iota
	text
	whole
	toggle
	duration
	prefix
	texts
	mirrors
)

// word says the shape in words a person uses.
func (s shape) word() string {
	return [...]string{
		section: "section", text: "text", whole: "whole number", toggle: "true or false",
		duration: "duration", prefix: "IPv4 CIDR", texts: "list of texts", mirrors: "list of host and endpoint",
	}[s]
}

// node is one key of a profile: its row of the table joined with its field.
type node struct {
	row
	name   string
	shape  shape
	index  []int   // the field in Profile; nil below a list
	parent *node   // nil for the root
	below  []*node // the keys of a section, or of each item of a list of sections
}

// newSchema joins the table with the fields of Profile. It panics when a field has no
// row: that is a mistake in this package, which its tests catch.
func newSchema() *node {
	rows := make(map[string]row)
	for _, r := range table() {
		rows[r.key] = r
	}
	root := &node{row: rows[""], shape: section}
	root.grow(rows, reflect.TypeFor[Profile]())
	return root
}

// grow adds a node for each field of t below n.
func (n *node) grow(rows map[string]row, t reflect.Type) {
	for i := range t.NumField() {
		field := t.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		child := &node{name: name, parent: n, shape: shapeOf(field.Type)}
		key := n.join(name)
		r, ok := rows[key]
		if !ok {
			panic(fmt.Sprintf("profiles: key %q has no row in the table", key))
		}
		child.row = r
		if n.shape == section {
			child.index = append(append([]int{}, n.index...), i)
		}
		switch child.shape {
		case section:
			child.grow(rows, field.Type)
		case mirrors:
			child.grow(rows, field.Type.Elem())
		}
		n.below = append(n.below, child)
	}
}

// join is the full path of the key name below n.
func (n *node) join(name string) string {
	switch {
	case n.key == "":
		return name
	case n.shape == mirrors:
		return n.key + "[]." + name
	default:
		return n.key + "." + name
	}
}

func shapeOf(t reflect.Type) shape {
	switch t {
	case reflect.TypeFor[Duration]():
		return duration
	case reflect.TypeFor[netip.Prefix]():
		return prefix
	case reflect.TypeFor[[]string]():
		return texts
	case reflect.TypeFor[[]RegistryMirror]():
		return mirrors
	}
	switch t.Kind() {
	case reflect.Struct:
		return section
	case reflect.String:
		return text
	case reflect.Int:
		return whole
	case reflect.Bool:
		return toggle
	default:
		panic(fmt.Sprintf("profiles: no shape for fields of type %s", t))
	}
}

// child is the key called name directly below n, or nil.
func (n *node) child(name string) *node {
	for _, c := range n.below {
		if c.name == name {
			return c
		}
	}
	return nil
}

// walk calls visit for every key below n, in the order of the file.
func (n *node) walk(visit func(*node)) {
	for _, c := range n.below {
		visit(c)
		c.walk(visit)
	}
}

// settings are the keys that hold a value of their own, in the order of the file.
func (n *node) settings() []*node {
	var found []*node
	n.walk(func(c *node) {
		if c.shape != section && c.index != nil {
			found = append(found, c)
		}
	})
	return found
}

// value is what p holds for n, which must be a setting.
func (n *node) value(p *Profile) any {
	return reflect.ValueOf(p).Elem().FieldByIndex(n.index).Interface()
}

// find follows a full path down from n. When that fails it returns the last key found
// and the name below it that is unknown, which is empty where two dots meet.
func (n *node) find(path string) (found *node, unknown string, ok bool) {
	here := n
	if path == "" {
		return here, "", true
	}
	for _, name := range strings.Split(strings.ReplaceAll(path, "[]", ""), ".") {
		next := here.child(name)
		if next == nil {
			return here, name, false
		}
		here = next
	}
	return here, "", true
}
