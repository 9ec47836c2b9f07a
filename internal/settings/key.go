package settings

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
)

// Row is what a table says about one key; its type comes from the field of a struct that has the key as its json
// tag. See [NewTree].
type Row struct {
	// Path is the full path, such as bpf.masquerade; empty for the document as a whole.
	Path string
	// Default is as it would be typed after --set.
	Default string
	// Allowed are the values there are; empty: Min and Max, or any.
	Allowed []string
	// Words are older spellings of allowed values.
	Words map[string]string
	// Refused are words that other networks know and this one does not, with the reason.
	Refused map[string]string
	// Min and Max hold for whole numbers (inclusive) and for durations (in seconds).
	Min, Max int
	// Zero is a number allowed besides the range, with a meaning of its own.
	Zero bool
	// Required keys have no default and must be in the file itself.
	Required bool
	// Fixed keys belong to the file: no --set, no environment.
	Fixed bool
	// Example is a value to show where the default is empty.
	Example string
	// Live is what comes of changing the setting in a cluster that is up, Stays why it cannot change there. A setting that
	// can be set has one of the two.
	Live, Stays string
	// Chart is the key's name in the chart's values where that is another.
	Chart string
	Text  string
}

// Shape is what a key holds.
type Shape int

// Shapes there are. Sections are the only ones with keys below them, but for SectionList, where each item has them.
const (
	Section Shape = iota
	Text
	Whole
	Toggle
	Period
	Prefix
	TextList
	SectionList
)

// Key is one key of a document: its row of the table joined with its field.
type Key struct {
	Row
	Name   string
	Shape  Shape
	Parent *Key   // nil for the root
	Below  []*Key // the keys of a section, or of each item of a list of sections

	index []int // the field in the document's struct; nil below a list
	typ   reflect.Type
}

// NewTree joins rows with the fields of t, a struct, and gives the root of the keys. Fields that are embedded have
// their keys beside the others. It panics when a field has no row: that is a mistake in the caller, which tests catch.
func NewTree(rows []Row, t reflect.Type) *Key {
	byPath := make(map[string]Row, len(rows))
	for _, r := range rows {
		byPath[r.Path] = r
	}
	root := &Key{Row: byPath[""], Shape: Section, typ: t}
	root.grow(byPath, t, []int{})
	return root
}

// grow adds a key for each field of t, which is at index in the document, below k.
func (k *Key) grow(rows map[string]Row, t reflect.Type, index []int) {
	for i := range t.NumField() {
		field := t.Field(i)
		at := append(append([]int{}, index...), i)
		if field.Anonymous {
			k.grow(rows, field.Type, at)
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		path := k.Join(name)
		r, ok := rows[path]
		if !ok {
			panic(fmt.Sprintf("settings: key %q has no row in the table", path))
		}
		child := &Key{Row: r, Name: name, Parent: k, Shape: shapeOf(field.Type), typ: field.Type}
		if k.Shape == Section {
			child.index = at
		}
		switch child.Shape {
		case Section:
			child.grow(rows, field.Type, at)
		case SectionList:
			child.grow(rows, field.Type.Elem(), nil)
		}
		k.Below = append(k.Below, child)
	}
}

// Join is the full path of the key name below k.
func (k *Key) Join(name string) string {
	switch {
	case k.Path == "":
		return name
	case k.Shape == SectionList:
		return k.Path + "[]." + name
	default:
		return k.Path + "." + name
	}
}

func shapeOf(t reflect.Type) Shape {
	switch t {
	case reflect.TypeFor[Duration]():
		return Period
	case reflect.TypeFor[netip.Prefix]():
		return Prefix
	case reflect.TypeFor[[]string]():
		return TextList
	}
	switch t.Kind() {
	case reflect.Struct:
		return Section
	case reflect.String:
		return Text
	case reflect.Int:
		return Whole
	case reflect.Bool:
		return Toggle
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			return SectionList
		}
	}
	panic(fmt.Sprintf("settings: no shape for fields of type %s", t))
}

// Child is the key called name directly below k, or nil.
func (k *Key) Child(name string) *Key {
	for _, c := range k.Below {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Walk calls visit for every key below k, in the order of the file.
func (k *Key) Walk(visit func(*Key)) {
	for _, c := range k.Below {
		visit(c)
		c.Walk(visit)
	}
}

// Settings are the keys that hold a value of their own, in the order of the file.
func (k *Key) Settings() []*Key {
	var found []*Key
	k.Walk(func(c *Key) {
		if c.Shape != Section && c.index != nil {
			found = append(found, c)
		}
	})
	return found
}

// Settable tells whether k takes a value after --set and from the environment.
func (k *Key) Settable() bool { return k.Shape != Section && k.index != nil && !k.Fixed }

// Value is what document, a pointer to the tree's struct, holds for k, which must be a setting.
func (k *Key) Value(document any) any {
	return reflect.ValueOf(document).Elem().FieldByIndex(k.index).Interface()
}

// Put has document hold value, which is of the type that [Key.Typed] gives, for k.
func (k *Key) Put(document, value any) {
	reflect.ValueOf(document).Elem().FieldByIndex(k.index).Set(reflect.ValueOf(value))
}

// SetDefaults has document hold the defaults of all settings below k but required ones. It panics when a default is
// none of the key's values: that is a mistake in the table, which tests catch.
func (k *Key) SetDefaults(document any) {
	for _, s := range k.Settings() {
		value, bad := s.Typed(s.Default)
		if bad != nil && !s.Required {
			panic(fmt.Sprintf("settings: the default of %s: %s", s.Path, bad.Message))
		}
		if bad == nil {
			s.Put(document, value)
		}
	}
}

// Find follows a full path down from k. When that fails it returns the last key found
// and the name below it that is unknown, which is empty where two dots meet.
func (k *Key) Find(path string) (found *Key, unknown string, ok bool) {
	if path == "" {
		return k, "", true
	}
	for name := range strings.SplitSeq(strings.ReplaceAll(path, "[]", ""), ".") {
		next := k.Child(name)
		if next == nil {
			return k, name, false
		}
		k = next
	}
	return k, "", true
}

// Root is the document as a whole.
func (k *Key) Root() *Key {
	for k.Parent != nil {
		k = k.Parent
	}
	return k
}

// Names lists the keys directly below k.
func (k *Key) Names() string { return strings.Join(k.names(), ", ") }

func (k *Key) names() []string {
	all := make([]string, len(k.Below))
	for i, c := range k.Below {
		all[i] = c.Name
	}
	return all
}

// EnvPrefix starts the name of every environment variable that sets a key.
const EnvPrefix = "WIRELAB_"

// EnvName is the variable that overrides k: its path in capitals, joined by _.
func (k *Key) EnvName() string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(k.Path, ".", "_"))
}

// Sample is a value that k takes, to show how one is written.
func (k *Key) Sample() string {
	switch {
	case k.Example != "":
		return k.Example
	case len(k.Allowed) > 0:
		return k.Allowed[len(k.Allowed)-1]
	default:
		return k.Default
	}
}

// Word says the shape of k in words a person uses.
func (k *Key) Word() string {
	if k.Shape == SectionList {
		return "list of " + strings.Join(k.names(), " and ")
	}
	return [...]string{
		Section: "section", Text: "text", Whole: "whole number", Toggle: "true or false",
		Period: "duration", Prefix: "IPv4 CIDR", TextList: "list of texts",
	}[k.Shape]
}
