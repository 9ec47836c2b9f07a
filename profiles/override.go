package profiles

import (
	"slices"
	"strings"
)

// envPrefix starts the name of every environment variable that sets a profile's key.
const envPrefix = "WIRELAB_"

// setSource stands in problems for the settings given with --set.
const setSource = "--set"

// envName is the variable that overrides n: its path in capitals, joined by _.
func (n *node) envName() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(n.key, ".", "_"))
}

// put stores a converted value for n in l, nested as in a file.
func (l layer) put(n *node, value any, from string) {
	values, path := l.values, strings.Split(n.key, ".")
	for _, name := range path[:len(path)-1] {
		below, ok := values[name].(map[string]any)
		if !ok {
			below = map[string]any{}
			values[name] = below
		}
		values = below
	}
	values[n.name] = value
	l.origins[n.key] = origin{source: from}
}

// envLayer reads the variables that set keys of a profile. A variable is one of these
// when the first word after WIRELAB_ is a section whose keys can be overridden, or is
// so near to one that it is a slip; every other variable is somebody else's. An empty
// variable counts as not set.
func envLayer(root *node, env []string, found *problems) layer {
	l := layer{values: map[string]any{}, origins: map[string]origin{}}
	byName := map[string]*node{}
	var names []string
	for _, n := range root.settings() {
		if !n.fixed {
			byName[n.envName()] = n
			names = append(names, n.envName())
		}
	}
	for _, variable := range slices.Sorted(slices.Values(env)) {
		name, raw, _ := strings.Cut(variable, "=")
		if raw == "" || !isOverride(root, name) {
			continue
		}
		n := byName[name]
		if n == nil {
			found.add(&Problem{Source: name, Message: "no key of a profile has this variable; unset it or mend its name", Nearest: nearest(name, names)})
			continue
		}
		l.read(n, raw, name, found)
	}
	return l
}

// isOverride says whether an environment variable means to set a key of a profile.
func isOverride(root *node, name string) bool {
	rest, ok := strings.CutPrefix(name, envPrefix)
	word, _, more := strings.Cut(rest, "_")
	if !ok || !more {
		return false
	}
	for _, n := range root.below {
		if n.shape != section || n.name == "metadata" {
			continue
		}
		// One slip: DMEO is demo, TEST is not.
		if distance(word, n.name) <= len(n.name)/4 {
			return true
		}
	}
	return false
}

// setLayer reads settings of the form key=value; a later one counts more.
func setLayer(root *node, set []string, found *problems) layer {
	l := layer{values: map[string]any{}, origins: map[string]origin{}}
	for _, setting := range set {
		key, raw, ok := strings.Cut(setting, "=")
		key = strings.TrimSpace(key)
		if !ok || key == "" {
			found.add(&Problem{Source: setSource, Key: setting, Message: "is not of the form key=value, such as network.mtu=1400"})
			continue
		}
		n, unknown, ok := root.find(key)
		switch {
		case !ok:
			found.add(unknownSetting(n, key, unknown))
		case n.fixed:
			found.add(&Problem{Source: setSource, Key: key, Message: "belongs in the profile's file" + hintFixed(n)})
		case n.parent != nil && n.parent.shape == mirrors:
			found.add(&Problem{Source: setSource, Key: key, Message: "is set for the whole list: " + n.parent.key + "=" + n.parent.example})
		case strings.TrimSpace(raw) == "" && n.shape != prefix && !slices.Contains(n.allowed, ""):
			found.add(&Problem{Source: setSource, Key: key, Message: "its value is empty; " + hintEmpty(n)})
		case raw == `""` && n.shape == text:
			l.read(n, "", setSource, found)
		default:
			l.read(n, raw, setSource, found)
		}
	}
	return l
}

// hintEmpty says how to write what an empty value may have been meant for.
func hintEmpty(n *node) string {
	switch n.shape {
	case texts, mirrors:
		return "write [] for an empty list"
	case text:
		return `write "" with its quotes for the empty text`
	default:
		return "give one, such as " + n.key + "=" + n.sample()
	}
}

// unknownSetting describes a key whose part unknown, below n, does not exist.
func unknownSetting(n *node, key, unknown string) *Problem {
	p := n.unknown(n.join(unknown), unknown)
	p.Source, p.Key = setSource, key
	// In netwrok.mtu the rest is right: say network.mtu, not network.
	if rest := strings.TrimPrefix(key, n.join(unknown)); p.Nearest != "" && rest != "" {
		if _, _, ok := n.root().find(p.Nearest + rest); ok {
			p.Nearest += rest
		}
	}
	if near, _, ok := n.root().find(p.Nearest); p.Nearest != "" && (!ok || !near.settable()) {
		p.Nearest = n.root().nearestSetting(key)
	}
	if p.Nearest == "" {
		p.Message = "unknown key; lab profile explain lists those there are"
	}
	return p
}

// settable tells whether n is a key that takes a value after --set.
func (n *node) settable() bool {
	return n.shape != section && n.index != nil && !n.fixed
}

// nearestSetting is the settable key that was probably meant, by its whole path or by its last part; empty when none is near.
func (n *node) nearestSetting(key string) string {
	var paths, names []string
	for _, s := range n.settings() {
		if s.settable() {
			paths, names = append(paths, s.key), append(names, s.name)
		}
	}
	if found := nearest(key, paths); found != "" {
		return found
	}
	if found := nearest(key[strings.LastIndex(key, ".")+1:], names); found != "" {
		return paths[slices.Index(names, found)]
	}
	return ""
}

func hintFixed(n *node) string {
	if n.key == "metadata.name" {
		return "; a lab gets another name with --name"
	}
	return ""
}

// read converts raw and stores it, or reports what is wrong with it.
func (l layer) read(n *node, raw, from string, found *problems) {
	value, bad := n.typed(raw)
	if bad != nil {
		found.add(&Problem{Source: from, Key: n.key, Message: bad.message, Nearest: bad.nearest})
		return
	}
	l.put(n, value, from)
}
