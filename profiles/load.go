package profiles

import (
	"errors"
	"fmt"

	"github.com/spf13/viper"

	"github.com/go-viper/mapstructure/v2"

	"wirelab.dev/wirelab/internal/settings"
)

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
	Name        string        `json:"name" yaml:"name"`
	Description string        `json:"description" yaml:"description"`
	Mode        settings.Mode `json:"mode" yaml:"mode"`
}

// List gives the shipped profiles, sorted by name.
func List() ([]Summary, error) {
	var all []Summary
	for _, name := range shippedNames() {
		p, err := Load(name, Options{})
		if err != nil {
			return nil, fmt.Errorf("load shipped profile %s: %w", name, err)
		}
		all = append(all, Summary{Name: p.Metadata.Name, Description: p.Metadata.Description, Mode: p.Mode()})
	}
	return all, nil
}

// Load reads the shipped profile of that name, or the file when ref has a slash or ends
// in .yaml or .yml, merges defaults, what it extends, the environment and opts.Set, and
// validates the result. The error joins one [*Problem] for each thing wrong; [Problems]
// takes it apart. It wraps [ErrUnknown] when there is no such profile.
func Load(ref string, opts Options) (*Profile, error) {
	return load(opts, func(c *chain) { c.follow(ref, "", origin{}) })
}

// Parse is [Load] for a profile at hand: source names it in errors, data is its YAML.
// An "extends" in it may name shipped profiles only.
func Parse(source string, data []byte, opts Options) (*Profile, error) {
	return load(opts, func(c *chain) { c.add(file{source: source, data: data}) })
}

func load(opts Options, gather func(*chain)) (*Profile, error) {
	root := newSchema()
	c := &chain{root: root}
	gather(c)
	if len(c.layers) == 0 {
		return nil, c.found.join() // nothing was read, so there is nothing else to say
	}
	layers := append(c.layers, envLayer(root, opts.Env, &c.found), setLayer(root, opts.Set, &c.found))
	p, err := merge(root, layers)
	if err != nil {
		return nil, err
	}
	origins := map[string]origin{}
	for i, l := range layers {
		for key, at := range l.origins {
			at.rank = i + 1
			origins[key] = at
		}
	}
	p.yield(origins)
	poolFollows := p.follow(origins)
	validate(p, origins, poolFollows, c.partial || c.found.touches("extends"), &c.found)
	if len(c.found) > 0 {
		return nil, c.found.join()
	}
	return p, nil
}

// yield takes back what only makes sense with a setting that counts more and says otherwise: who has a tunnel in the place
// of an extended profile's routes need not know of every setting that goes with these.
func (p *Profile) yield(origins map[string]origin) {
	const mode, direct = "network.routingMode", "network.autoDirectNodeRoutes"
	if p.Network.RoutingMode == settings.RoutingTunnel && origins[mode].rank > origins[direct].rank {
		p.Network.AutoDirectNodeRoutes = false
	}
}

// merge makes a profile of the defaults and of the layers, the last of which counts most.
// viper compares keys without case; that is safe here, as every key in a layer was
// found in the schema, in which no two keys differ by case alone.
func merge(root *settings.Key, layers []layer) (*Profile, error) {
	v := viper.New()
	for _, l := range layers {
		if err := v.MergeConfigMap(l.values); err != nil {
			return nil, fmt.Errorf("merge settings: %w", err)
		}
	}
	p := &Profile{}
	root.SetDefaults(p)
	strict := func(c *mapstructure.DecoderConfig) {
		c.TagName = "json"
		c.ErrorUnused = true
		c.WeaklyTypedInput = false
		c.ZeroFields = true // a list takes the place of the default's
		c.DecodeHook = nil
	}
	if err := v.Unmarshal(p, strict); err != nil {
		return nil, fmt.Errorf("merge settings: %w", err)
	}
	p.Extends = ""
	return p, nil
}

// Keys are the full paths of all settings, in the order of the file.
func Keys() []string {
	var keys []string
	for _, n := range newSchema().Settings() {
		keys = append(keys, n.Path)
	}
	return keys
}
