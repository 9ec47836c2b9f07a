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
// it, or everything for the empty key. An unknown key is a [*Problem] with the nearest.
func Explain(key string) (Doc, error) {
	n, unknown := newSchema().find(strings.TrimSuffix(key, "."))
	if unknown != "" {
		return Doc{}, n.unknown(key, unknown)
	}
	return n.doc(), nil
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
