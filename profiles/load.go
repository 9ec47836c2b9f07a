package profiles

import "errors"

// ErrUnknown is wrapped when no shipped profile has the name asked for, or no file is
// at the path asked for.
var ErrUnknown = errors.New("unknown profile")

// Options are what counts more than a profile's file.
type Options struct {
	// Set are settings of the form key=value, as after --set; a later one counts more.
	Set []string
	// Env is an environment as [os.Environ] gives it; WIRELAB_NETWORK_MTU=1400 sets
	// network.mtu. Nil: the environment does not count.
	Env []string
}

// Summary is a shipped profile in a list.
type Summary struct {
	Name        string `json:"name" yaml:"name"`
	Description string `json:"description" yaml:"description"`
	Mode        Mode   `json:"mode" yaml:"mode"`
}

// List gives the shipped profiles, sorted by name.
func List() ([]Summary, error) { return nil, nil }

// Load reads the shipped profile of that name, or the file when ref has a slash or ends
// in .yaml or .yml, merges defaults, what it extends, the environment and opts.Set, and
// validates the result. The error joins one [*Problem] for each thing wrong; [Problems]
// takes it apart. It wraps [ErrUnknown] when there is no such profile.
func Load(ref string, opts Options) (*Profile, error) { return nil, nil }

// Parse is [Load] for a profile at hand: source names it in errors, data is its YAML.
// An "extends" in it may name shipped profiles only.
func Parse(source string, data []byte, opts Options) (*Profile, error) { return nil, nil }

// CheckName says what is wrong with name as the name of a lab, or nil.
func CheckName(name string) error { return nil }

// YAML prints the whole profile so that [Parse] reads it back to the same.
func (p *Profile) YAML() ([]byte, error) { return nil, nil }
