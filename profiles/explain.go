package profiles

import (
	"encoding/json"
	"fmt"
	"strings"

	"wirelab.dev/wirelab/internal/settings"
)

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
	// Live is what comes of changing the key in a lab that is up, Stays why it cannot change there; both are empty for
	// sections and for keys that belong to the file.
	Live  string `json:"live,omitempty" yaml:"live,omitempty"`
	Stays string `json:"stays,omitempty" yaml:"stays,omitempty"`
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
	n, unknown, ok := root.Find(strings.TrimSuffix(key, "."))
	if ok {
		return docOf(n), nil
	}
	switch ends := ending(root, key); len(ends) {
	case 0:
		return Doc{}, unknownKey(n, key, unknown, "")
	case 1:
		return docOf(ends[0]), nil
	default:
		var keys []string
		for _, e := range ends {
			keys = append(keys, e.Path)
		}
		return Doc{}, &Problem{Key: key, Message: "several keys end so: " + strings.Join(keys, ", ")}
	}
}

// ending are the keys whose path ends in key, whole names of it.
func ending(n *settings.Key, key string) []*settings.Key {
	var found []*settings.Key
	key = strings.ReplaceAll(key, "[]", "")
	n.Walk(func(c *settings.Key) {
		if strings.Contains(key, ".") && strings.HasSuffix(strings.ReplaceAll(c.Path, "[]", ""), "."+key) {
			found = append(found, c)
		}
	})
	return found
}

func docOf(n *settings.Key) Doc {
	d := Doc{Key: n.Path, Type: n.Word(), Text: n.Text, Default: n.Default, Allowed: n.Choices(), Required: n.Required, Live: n.Live, Stays: n.Stays}
	if n.Shape == settings.Section && n.Path == "" {
		d.Type = "profile"
	}
	if n.Settable() {
		d.Env = n.EnvName()
		d.Set = "--set " + n.Path + "=" + n.Sample()
	}
	for _, c := range n.Below {
		d.Children = append(d.Children, docOf(c))
	}
	return d
}

// JSONSchema is a JSON Schema (draft 7) of profile files, for editors that complete and
// check YAML. It is made from the same table as loading, and refuses unknown keys too;
// rules that involve several keys are left to [Load].
func JSONSchema() ([]byte, error) {
	schema := newSchema().JSONSchema()
	schema["$schema"] = "http://json-schema.org/draft-07/schema#"
	schema["title"] = "wirelab profile"
	data, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the JSON schema: %w", err)
	}
	return append(data, '\n'), nil
}
