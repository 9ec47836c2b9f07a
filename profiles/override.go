package profiles

import (
	"slices"
	"strings"

	"wirelab.dev/wirelab/internal/nearest"
	"wirelab.dev/wirelab/internal/settings"
)

// setSource stands in problems for the settings given with --set.
const setSource = "--set"

// put stores a converted value for n in l, nested as in a file.
func (l layer) put(n *settings.Key, value any, from string) {
	values, path := l.values, strings.Split(n.Path, ".")
	for _, name := range path[:len(path)-1] {
		below, ok := values[name].(map[string]any)
		if !ok {
			below = map[string]any{}
			values[name] = below
		}
		values = below
	}
	values[n.Name] = value
	l.origins[n.Path] = origin{source: from}
}

// envLayer reads the variables that set keys of a profile. A variable is one of these
// when the first word after WIRELAB_ is a section whose keys can be overridden, or is
// so near to one that it is a slip; every other variable is somebody else's. An empty
// variable counts as not set.
func envLayer(root *settings.Key, env []string, found *problems) layer {
	l := layer{values: map[string]any{}, origins: map[string]origin{}}
	byName := map[string]*settings.Key{}
	var names []string
	for _, n := range root.Settings() {
		if !n.Fixed {
			byName[n.EnvName()] = n
			names = append(names, n.EnvName())
		}
	}
	for _, variable := range slices.Sorted(slices.Values(env)) {
		name, raw, _ := strings.Cut(variable, "=")
		if raw == "" || !isOverride(root, name) {
			continue
		}
		n := byName[name]
		if n == nil {
			found.add(&Problem{Source: name, Message: "no key of a profile has this variable; unset it or mend its name", Nearest: nearest.Of(name, names)})
			continue
		}
		l.read(n, raw, name, found)
	}
	return l
}

// isOverride says whether an environment variable means to set a key of a profile.
func isOverride(root *settings.Key, name string) bool {
	rest, ok := strings.CutPrefix(name, settings.EnvPrefix)
	word, _, more := strings.Cut(rest, "_")
	if !ok || !more {
		return false
	}
	for _, n := range root.Below {
		if n.Shape != settings.Section || n.Name == "metadata" {
			continue
		}
		// One slip: DMEO is demo, TEST is not.
		if nearest.Distance(word, n.Name) <= len(n.Name)/4 {
			return true
		}
	}
	return false
}

// setLayer reads settings of the form key=value; a later one counts more.
func setLayer(root *settings.Key, set []string, found *problems) layer {
	l := layer{values: map[string]any{}, origins: map[string]origin{}}
	for _, setting := range set {
		key, raw, ok := strings.Cut(setting, "=")
		key = strings.TrimSpace(key)
		if !ok || key == "" {
			found.add(&Problem{Source: setSource, Key: setting, Message: "is not of the form key=value, such as network.mtu=1400"})
			continue
		}
		n, unknown, ok := root.Find(key)
		switch {
		case !ok:
			found.add(unknownSetting(n, key, unknown, raw))
		case n.Fixed:
			found.add(&Problem{Source: setSource, Key: key, Message: "belongs in the profile's file" + hintFixed(n)})
		case n.Parent != nil && n.Parent.Shape == settings.SectionList:
			found.add(&Problem{Source: setSource, Key: key, Message: "is set for the whole list: " + n.Parent.Path + "=" + n.Parent.Example})
		case strings.TrimSpace(raw) == "" && n.Shape != settings.Prefix && !slices.Contains(n.Allowed, ""):
			found.add(&Problem{Source: setSource, Key: key, Message: "its value is empty; " + hintEmpty(n)})
		case raw == `""` && n.Shape == settings.Text:
			l.read(n, "", setSource, found)
		default:
			l.read(n, raw, setSource, found)
		}
	}
	return l
}

// hintEmpty says how to write what an empty value may have been meant for.
func hintEmpty(n *settings.Key) string {
	switch n.Shape {
	case settings.TextList, settings.SectionList:
		return "write [] for an empty list"
	case settings.Text:
		return `write "" with its quotes for the empty text`
	default:
		return "give one, such as " + n.Path + "=" + n.Sample()
	}
}

// unknownSetting describes a key whose part unknown, below n, does not exist.
func unknownSetting(n *settings.Key, key, unknown, raw string) *Problem {
	p := unknownKey(n, n.Join(unknown), unknown, raw)
	p.Source, p.Key = setSource, key
	// In netwrok.mtu the rest is right: say network.mtu, not network.
	if rest := strings.TrimPrefix(key, n.Join(unknown)); p.Nearest != "" && rest != "" {
		if _, _, ok := n.Root().Find(p.Nearest + rest); ok {
			p.Nearest += rest
		}
	}
	if settings.InsteadOf(unknown, raw) != "" {
		return p
	}
	if near, _, ok := n.Root().Find(p.Nearest); p.Nearest != "" && (!ok || !near.Settable()) {
		p.Nearest = n.Root().NearestSetting(key)
	}
	if p.Nearest == "" {
		p.Message = "unknown key; lab profile explain lists those there are"
	}
	return p
}

func hintFixed(n *settings.Key) string {
	if n.Path == "metadata.name" {
		return "; a lab gets another name with --name"
	}
	return ""
}

// read converts raw and stores it, or reports what is wrong with it.
func (l layer) read(n *settings.Key, raw, from string, found *problems) {
	value, bad := n.Typed(raw)
	if bad != nil {
		found.add(&Problem{Source: from, Key: n.Path, Message: bad.Message, Nearest: bad.Nearest})
		return
	}
	l.put(n, value, from)
}
