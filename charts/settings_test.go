package charts_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"wirelab.dev/wirelab/internal/settings"
)

var update = flag.Bool("update", false, "rewrite wirelab/settings.json and the network's part of wirelab/values.schema.json")

// chartPath is k's path in the values.
func chartPath(k *settings.Key) string {
	if k.Parent == nil {
		return ""
	}
	return settings.Join(chartPath(k.Parent), k.InChart())
}

// rules are what the templates hold values against.
func rules() map[string]any {
	keys, refused, off := []string{}, map[string]any{}, []string{"", "false", "[]"}
	settings.Keys().Walk(func(k *settings.Key) {
		keys = append(keys, chartPath(k))
		if len(k.Refused) > 0 {
			refused[chartPath(k)] = k.Refused
		}
		for word, meaning := range k.Words {
			if meaning == "false" {
				off = append(off, word)
			}
		}
	})
	return map[string]any{"keys": keys, "refused": refused, "off": off, "needs": settings.Needs(""), "former": settings.Former,
		"taken": settings.TakenPorts(), "leastMTU": settings.MinMTU, "tunnelOverhead": settings.TunnelOverhead}
}

// TestRulesAreTheSettings holds what the templates read against what the agent checks.
func TestRulesAreTheSettings(t *testing.T) {
	want := indented(t, rules())
	const file = "wirelab/settings.json"
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), string(raw(t, "settings.json"))); diff != "" {
		t.Errorf("%s differs from the settings; run go test ./charts -update\n%s", file, diff)
	}
}

func indented(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(data, '\n')
}

// octets is an IPv4 CIDR; what is beyond its length is the agent's to cut off.
const (
	octet = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
	cidr  = "^$|^" + octet + `(\.` + octet + "){3}/([0-9]|[12][0-9]|3[0-2])$"
)

// schemaOf is what the schema of the values says about k.
func schemaOf(k *settings.Key) map[string]any {
	switch k.Shape {
	case settings.Section:
		properties := map[string]any{}
		for _, c := range k.Below {
			properties[c.InChart()] = schemaOf(c)
		}
		return map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	case settings.TextList:
		item := map[string]any{"type": "string", "minLength": 1, "maxLength": 15} // a device
		if len(k.Allowed) > 0 {
			// The templates say why refused words are.
			item = map[string]any{"enum": slices.Concat(k.Allowed, slices.Sorted(maps.Keys(k.Refused)))}
		}
		if k.Parent.Path == "labels" {
			item = map[string]any{"type": "string", "pattern": settings.LabelPattern}
		}
		if strings.HasSuffix(k.Name, "CIDRList") {
			item = map[string]any{"type": "string", "minLength": 1, "pattern": cidr}
		}
		return map[string]any{"type": "array", "uniqueItems": true, "items": item}
	case settings.Prefix:
		return map[string]any{"type": "string", "pattern": cidr}
	case settings.Whole:
		bounds := map[string]any{"type": "integer", "minimum": k.Min, "maximum": k.Max}
		if k.Zero {
			return map[string]any{"oneOf": []any{map[string]any{"type": "integer", "const": 0}, bounds}}
		}
		return bounds
	case settings.Toggle:
		if len(k.Allowed) == 0 {
			return map[string]any{"type": "boolean"}
		}
		// The templates say why refused words are.
		values := []any{true, "true", false, "false"}
		for _, word := range append(slices.Sorted(maps.Keys(k.Words)), slices.Sorted(maps.Keys(k.Refused))...) {
			values = append(values, word)
		}
		return map[string]any{"enum": values}
	default:
		return map[string]any{"enum": k.Allowed}
	}
}

// TestSchemaIsTheSettings holds the network's part of the values' schema against the keys there are. It is about keys of
// the chart alone that the schema has more.
func TestSchemaIsTheSettings(t *testing.T) {
	var got map[string]any
	unmarshal(t, load(t).Schema, &got)
	properties := got["properties"].(map[string]any)
	for _, k := range settings.Keys().Below {
		var want any
		unmarshal(t, indented(t, schemaOf(k)), &want)
		if *update {
			properties[k.InChart()] = want
			continue
		}
		if diff := cmp.Diff(want, properties[k.InChart()]); diff != "" {
			t.Errorf("the schema of %s differs from the settings; run go test ./charts -update\n%s", k.InChart(), diff)
		}
	}
	for name, values := range settings.Former {
		want := map[string]any{"enum": slices.Sorted(maps.Keys(values))} // which the templates answer
		if *update {
			properties[name] = want
		} else if diff := cmp.Diff(fmt.Sprint(want), fmt.Sprint(properties[name])); diff != "" {
			t.Errorf("the schema of %s differs from the settings; run go test ./charts -update\n%s", name, diff)
		}
	}
	if *update {
		if err := os.WriteFile("wirelab/values.schema.json", indented(t, got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDefaultsAreTheSettings: who installs the chart gets what a profile that says nothing gets, but for the one setting
// that has no default there.
func TestDefaultsAreTheSettings(t *testing.T) {
	var want map[string]any
	unmarshal(t, indented(t, settings.Default().Values()), &want)
	want["ipv4NativeRoutingCIDR"] = "10.0.0.0/8"
	got := load(t).Values
	for key, value := range want {
		data, err := yaml.Marshal(got[key])
		if err != nil {
			t.Fatal(err)
		}
		var again any
		unmarshal(t, data, &again)
		if _, ok := got[key]; !ok || !reflect.DeepEqual(again, value) {
			t.Errorf("values.yaml has %v for %s, want %v", again, key, value)
		}
	}
}

// TestRulesRefuse breaks each rule.
func TestRulesRefuse(t *testing.T) {
	for _, r := range settings.Needs("") {
		values := map[string]any{}
		for path, value := range map[string]any{r.Key: true, r.Needs: r.Not} {
			k, _, ok := settings.Keys().Find(path)
			if !ok {
				t.Fatalf("no key %s", path)
			}
			switch {
			case k.Shape == settings.Toggle && value == "":
				value = false
			case k.Shape == settings.TextList:
				value = k.Allowed
			case k.Shape == settings.Whole:
				value, _ = k.Convert(r.Not)
			}
			if k.Shape == settings.Whole {
				value = json.Number(r.Not)
			}
			put(values, strings.Split(chartPath(k), "."), value)
		}
		if _, err := render(t, string(indented(t, values))); err == nil || !strings.Contains(err.Error(), r.Message) {
			t.Errorf("%v: got %v, want %q", values, err, r.Message)
		}
	}
	for name, values := range settings.Former {
		for value := range values {
			if _, err := render(t, name+": "+value); err == nil || !strings.Contains(err.Error(), settings.InsteadOf(name, value)) {
				t.Errorf("%s %s: got %v, want %q", name, value, err, settings.InsteadOf(name, value))
			}
		}
	}
	for _, word := range []string{"dns", "http"} {
		want := fmt.Sprintf("flows.metrics: %q needs events of layer 7", word)
		if _, err := render(t, "flows: {metrics: [drop, "+word+"]}"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", word, err, want)
		}
	}
	for _, word := range []string{"partial", "probe"} {
		want := fmt.Sprintf("kubeProxyReplacement: %q would leave some Services", word)
		if _, err := render(t, "kubeProxyReplacement: "+word); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", word, err, want)
		}
	}
}

func put(values map[string]any, path []string, value any) {
	if len(path) == 1 {
		values[path[0]] = value
		return
	}
	below, _ := values[path[0]].(map[string]any)
	if below == nil {
		below = map[string]any{}
		values[path[0]] = below
	}
	put(below, path[1:], value)
}
