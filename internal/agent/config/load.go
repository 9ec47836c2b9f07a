package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"wirelab.dev/wirelab/internal/nearest"
	"wirelab.dev/wirelab/internal/settings"
)

// DefaultPath is where the chart mounts the agent's ConfigMap.
const DefaultPath = "/etc/wirelab/config.yaml"

// Load reads the YAML file at path, or none if path is empty. Variables of env (os.Environ's form) take precedence over
// it; see variable for their names. Unknown keys and variables are errors that name the nearest one there is; all
// problems are reported at once.
func Load(path string, env []string) (Config, error) {
	if path == "" {
		return Parse(nil, env)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the agent's configuration %s: %w", path, err)
	}
	return load(text, "the agent's configuration "+path, env)
}

// Parse is [Load] of what would be in the file.
func Parse(text []byte, env []string) (Config, error) {
	return load(text, "the agent's configuration", env)
}

// load reads text, which errors call what.
func load(text []byte, what string, env []string) (Config, error) {
	var document map[string]any
	if err := yaml.Unmarshal(text, &document); err != nil {
		return Config{}, fmt.Errorf("read %s: %w", what, err)
	}
	l := &loader{keys: keys(), config: Default(), wrong: map[string]bool{}}
	l.section(l.keys, document)
	l.environment(env)
	if l.config.NodeName == "" {
		l.bad("nodeName", "is empty: set %s to the node's name in Kubernetes", l.keys.Child("nodeName").EnvName())
	}
	if len(l.config.Flows.Metrics) > 0 && !l.config.Prometheus.Enabled {
		l.bad("flows.metrics", "needs prometheus.enabled: without it the agent serves no metrics; set prometheus.enabled to true, or flows.metrics to []")
	}
	for _, f := range settings.Faults(l.config.Network.Validate("")) {
		if !slices.ContainsFunc(f.Keys, func(key string) bool { return l.wrong[key] }) {
			l.errs = append(l.errs, f)
		}
	}
	if err := errors.Join(l.errs...); err != nil {
		return Config{}, fmt.Errorf("load the agent's configuration: %w", err)
	}
	return l.config, nil
}

// loader fills config and notes everything wrong.
type loader struct {
	keys   *settings.Key
	config Config
	errs   []error
	wrong  map[string]bool // keys whose values are not in config, as they are wrong
}

func (l *loader) bad(path, format string, args ...any) {
	l.wrong[path] = true
	l.errs = append(l.errs, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
}

// section takes the values of k's keys, by their own names or by those of the chart's values.
func (l *loader) section(k *settings.Key, values map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		path := k.Join(name)
		i := slices.IndexFunc(k.Below, func(c *settings.Key) bool { return name == c.Name || name == c.Chart })
		if i < 0 {
			l.bad(path, "unknown key%s", hint(k.NearestBelow(path, name), "known here: "+k.Names()))
			continue
		}
		child := k.Below[i]
		if child.Shape == settings.Section {
			below, ok := values[name].(map[string]any)
			if !ok {
				l.bad(path, "%v stands where a section belongs; its keys are %s", values[name], child.Names())
			}
			l.section(child, below)
			continue
		}
		value, wrong := child.Decoded(values[name])
		l.value(child, value, wrong)
	}
}

// value takes what k's value is, unless something is wrong with it.
func (l *loader) value(k *settings.Key, value any, wrong *settings.Complaint) {
	if wrong != nil {
		l.bad(k.Path, "%s%s", wrong.Message, hint(wrong.Nearest, ""))
		return
	}
	k.Put(&l.config, value)
}

// environment takes the variables of env that are settings. One that is empty counts as not set.
func (l *loader) environment(env []string) {
	network := settings.Keys()
	byName := map[string]*settings.Key{}
	for _, k := range l.keys.Settings() {
		byName[variable(network, k)] = k
	}
	for _, entry := range env {
		name, raw, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, settings.EnvPrefix) || raw == "" {
			continue
		}
		if k, ok := byName[name]; ok {
			value, wrong := k.Typed(k.Masked(raw))
			l.value(k, value, wrong)
			continue
		}
		l.bad(name, "unknown variable%s", hint(nearest.Of(name, slices.Sorted(maps.Keys(byName))), "the agent's start with "+settings.EnvPrefix))
	}
}

// variable is the name of the variable that sets k. A setting of the network has the name that it has for profiles,
// WIRELAB_NETWORK_MTU.
func variable(network, k *settings.Key) string {
	if _, _, ok := network.Find(k.Path); !ok {
		return k.EnvName()
	}
	return strings.Replace(k.EnvName(), settings.EnvPrefix, settings.EnvPrefix+"NETWORK_", 1)
}

// hint says what was probably meant, or else.
func hint(nearest, other string) string {
	switch {
	case nearest != "":
		return "; did you mean " + nearest + "?"
	case other != "":
		return "; " + other
	}
	return ""
}
