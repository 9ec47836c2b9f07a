package profiles

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v3"

	"wirelab.dev/wirelab/internal/settings"
)

// YAML prints the whole profile so that [Parse] reads it back to the same.
func (p *Profile) YAML() ([]byte, error) {
	data, err := printYAML(p)
	if err != nil {
		return nil, fmt.Errorf("print profile %s: %w", p.Metadata.Name, err)
	}
	return data, nil
}

func printYAML(v any) ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	if err := encoder.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Settings are the values of all settings by their keys, as they are typed after --set.
func (p *Profile) Settings() map[string]string {
	all := map[string]string{}
	for _, n := range newSchema().Settings() {
		all[n.Path] = settings.Written(n.Value(p))
	}
	return all
}

// Change is a key whose value differs between two profiles. A and B are the values as
// they are typed after --set.
type Change struct {
	Key string `json:"key" yaml:"key"`
	A   string `json:"a" yaml:"a"`
	B   string `json:"b" yaml:"b"`
	// Stays is why the key cannot change in a lab that is up; empty where it can.
	Stays string `json:"stays,omitempty" yaml:"stays,omitempty"`
}

// Diff lists the keys in which a and b differ, in the order of the file. Names and
// descriptions of profiles do not count: they change nothing in a lab.
func Diff(a, b *Profile) []Change {
	var changes []Change
	for _, n := range newSchema().Settings() {
		if n.Fixed {
			continue
		}
		va, vb := settings.Written(n.Value(a)), settings.Written(n.Value(b))
		if va != vb {
			changes = append(changes, Change{Key: n.Path, A: va, B: vb, Stays: n.Stays})
		}
	}
	return changes
}
