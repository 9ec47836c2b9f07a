package profiles

import "strings"

// Doc explains one key of a profile.
type Doc struct {
	// Key is empty for the profile as a whole.
	Key  string `json:"key" yaml:"key"`
	Type string `json:"type" yaml:"type"`
	Text string `json:"text" yaml:"text"`
	// Default is as it is typed after --set; empty for sections and keys without one.
	Default string `json:"default,omitempty" yaml:"default,omitempty"`
	// Allowed says what a value is taken from: words and ranges, separated by commas.
	// It is empty when the form alone decides.
	Allowed string `json:"allowed,omitempty" yaml:"allowed,omitempty"`
	// Required is set for keys that each file must write itself.
	Required bool `json:"required,omitempty" yaml:"required,omitempty"`
	// Env and Set are how to override the key; empty where that cannot be done.
	Env string `json:"env,omitempty" yaml:"env,omitempty"`
	Set string `json:"set,omitempty" yaml:"set,omitempty"`
	// Children are the keys below a section, in the order of the file.
	Children []Doc `json:"children,omitempty" yaml:"children,omitempty"`
}

// Explain describes a key such as network.mtu, a section such as network with all below
// it, or everything for the empty key. The end of a path will do
// where just one key has it. An unknown key is a [*Problem] with the nearest.
func Explain(key string) (Doc, error) {
	root := newSchema()
	n, unknown, ok := root.find(strings.TrimSuffix(key, "."))
	if ok {
		return n.doc(), nil
	}
	switch ends := root.ending(key); len(ends) {
	case 0:
		return Doc{}, n.unknown(key, unknown)
	case 1:
		return ends[0].doc(), nil
	default:
		var keys []string
		for _, e := range ends {
			keys = append(keys, e.key)
		}
		return Doc{}, &Problem{Key: key, Message: "several keys end so: " + strings.Join(keys, ", ")}
	}
}

// ending are the keys whose path ends in key, whole names of it.
func (n *node) ending(key string) []*node {
	var found []*node
	key = strings.ReplaceAll(key, "[]", "")
	n.walk(func(c *node) {
		if strings.Contains(key, ".") && strings.HasSuffix(strings.ReplaceAll(c.key, "[]", ""), "."+key) {
			found = append(found, c)
		}
	})
	return found
}

func (n *node) doc() Doc {
	d := Doc{Key: n.key, Type: n.shape.word(), Text: n.text, Default: n.def, Allowed: n.choices(), Required: n.required}
	if n.shape == section && n.key == "" {
		d.Type = "profile"
	}
	if n.index != nil && n.shape != section && !n.fixed {
		d.Env = n.envName()
		d.Set = "--set " + n.key + "=" + n.sample()
	}
	for _, c := range n.below {
		d.Children = append(d.Children, c.doc())
	}
	return d
}

// sample is a value that n takes, to show how one is written.
func (n *node) sample() string {
	switch {
	case n.example != "":
		return n.example
	case len(n.allowed) > 0:
		return n.allowed[len(n.allowed)-1]
	default:
		return n.def
	}
}
