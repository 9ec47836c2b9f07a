package profiles

// Doc explains one key of a profile.
type Doc struct {
	// Key is empty for the profile as a whole.
	Key  string `json:"key" yaml:"key"`
	Type string `json:"type" yaml:"type"`
	Text string `json:"text" yaml:"text"`
	// Default is as it stands in YAML; empty for sections and keys without one.
	Default string `json:"default,omitempty" yaml:"default,omitempty"`
	// Allowed are the words or the range a value is taken from; may be empty.
	Allowed []string `json:"allowed,omitempty" yaml:"allowed,omitempty"`
	// Required is set for keys that each profile must write itself.
	Required bool `json:"required,omitempty" yaml:"required,omitempty"`
	// Env and Set are how to override the key; empty where that cannot be done.
	Env string `json:"env,omitempty" yaml:"env,omitempty"`
	Set string `json:"set,omitempty" yaml:"set,omitempty"`
	// Children are the keys below a section, in the order of the file.
	Children []Doc `json:"children,omitempty" yaml:"children,omitempty"`
}

// Explain describes a key such as network.mtu, a section such as network with all below
// it, or everything for the empty key. An unknown key is a [*Problem] with the nearest.
func Explain(key string) (Doc, error) { return Doc{}, nil }

// Keys are the full paths of all settings, in the order of the file.
func Keys() []string { return nil }
