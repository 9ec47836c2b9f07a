package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/agext/levenshtein"
	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
)

// DefaultPath is where the chart mounts the agent's ConfigMap.
const DefaultPath = "/etc/wirelab/config.yaml"

const envPrefix = "WIRELAB_"

// Load reads the YAML file at path, or none if path is empty. Variables of
// env (os.Environ's form) named WIRELAB_ and the key in capitals, such as
// WIRELAB_BPF_MONITOR_AGGREGATION for bpf.monitorAggregation, take precedence
// over it. Unknown keys and variables are errors that name the nearest one
// there is; all problems are reported at once.
func Load(path string, env []string) (Config, error) {
	v := viper.New()
	keys := Keys()
	setDefaults(v, keys)
	if path != "" {
		v.SetConfigFile(path)
		v.SetConfigType("yaml")
		if err := v.ReadInConfig(); err != nil {
			return Config{}, fmt.Errorf("read the agent's configuration %s: %w", path, err)
		}
	}
	errs := unknownKeys(v, keys)
	errs = append(errs, applyEnv(v, keys, env)...)
	var c Config
	if err := v.Unmarshal(&c, viper.DecodeHook(hooks())); err != nil {
		errs = append(errs, err)
	} else if err := c.validate(); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, fmt.Errorf("load the agent's configuration: %w", err)
	}
	return c, nil
}

// hooks take a word that YAML reads as a bool (kubeProxyReplacement: false) as
// the word, and a comma-separated variable as a list.
func hooks() mapstructure.DecodeHookFunc {
	return mapstructure.ComposeDecodeHookFunc(
		func(from, to reflect.Type, value any) (any, error) {
			if b, ok := value.(bool); ok && from.Kind() == reflect.Bool && to.Kind() == reflect.String {
				return strconv.FormatBool(b), nil
			}
			return value, nil
		},
		mapstructure.StringToSliceHookFunc(","),
	)
}

// Keys are the names of all settings, such as bpf.monitorAggregation, in the
// order of the fields.
func Keys() []string {
	var keys []string
	walk("", reflect.ValueOf(Default()), func(key string, _ any) { keys = append(keys, key) })
	return keys
}

func setDefaults(v *viper.Viper, keys []string) {
	values := map[string]any{}
	walk("", reflect.ValueOf(Default()), func(key string, value any) { values[key] = value })
	for _, key := range keys {
		v.SetDefault(key, values[key])
	}
}

func walk(prefix string, v reflect.Value, visit func(key string, value any)) {
	for i := range v.NumField() {
		key := prefix + v.Type().Field(i).Tag.Get("mapstructure")
		if v.Field(i).Kind() == reflect.Struct {
			walk(key+".", v.Field(i), visit)
			continue
		}
		visit(key, v.Field(i).Interface())
	}
}

// unknownKeys are errors about the file's keys that no setting has. viper has
// them in lower case.
func unknownKeys(v *viper.Viper, keys []string) []error {
	var errs []error
	for _, got := range v.AllKeys() {
		if !slices.ContainsFunc(keys, func(key string) bool { return strings.EqualFold(key, got) }) {
			errs = append(errs, fmt.Errorf("unknown key %s: did you mean %s?", got, nearest(got, keys)))
		}
	}
	return errs
}

// applyEnv overrides settings with variables of env.
func applyEnv(v *viper.Viper, keys, env []string) []error {
	names := map[string]string{}
	for _, key := range keys {
		names[EnvName(key)] = key
	}
	var errs []error
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		if key, ok := names[name]; ok {
			v.Set(key, value)
			continue
		}
		known := make([]string, 0, len(names))
		for n := range names {
			known = append(known, n)
		}
		slices.Sort(known)
		errs = append(errs, fmt.Errorf("unknown variable %s: did you mean %s?", name, nearest(name, known)))
	}
	return errs
}

// EnvName is the variable that overrides a key: WIRELAB_BPF_MONITOR_AGGREGATION
// for bpf.monitorAggregation.
func EnvName(key string) string {
	var b strings.Builder
	runes := []rune(key)
	for i, r := range runes {
		// A word starts at a capital behind a small letter or a digit:
		// monitor_Aggregation, but native_Routing_CIDR.
		if i > 0 && unicode.IsUpper(r) && !unicode.IsUpper(runes[i-1]) && runes[i-1] != '.' {
			b.WriteByte('_')
		}
		if r == '.' {
			r = '_'
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return envPrefix + b.String()
}

func nearest(word string, candidates []string) string {
	return slices.MinFunc(candidates, func(a, b string) int {
		return distance(word, a) - distance(word, b)
	})
}

func distance(a, b string) int {
	return levenshtein.Distance(strings.ToLower(a), strings.ToLower(b), nil)
}

func quotedList(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	return strings.Join(quoted, " or ")
}
