package profiles

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"wirelab.dev/wirelab/internal/settings"
)

func TestExplain(t *testing.T) {
	got, err := Explain("network.mtu")
	if err != nil {
		t.Fatal(err)
	}
	want := Doc{
		Key: "network.mtu", Type: "whole number", Default: "0", Allowed: "0, 576 to 65535",
		Text:  "The MTU of pod interfaces in bytes. 0 takes that of the network device with the node's address, or the smallest of network.devices, which is right unless something between the nodes carries less. When it changes, pods that come later get the new one.",
		Stays: "pods keep the MTU that they began with",
		Env:   "WIRELAB_NETWORK_MTU", Set: "--set network.mtu=1400",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	debug, err := Explain("network.debug")
	if err != nil {
		t.Fatal(err)
	}
	if len(debug.Children) != 2 || debug.Children[0].Key != "network.debug.enabled" || debug.Env != "" || debug.Set != "" {
		t.Errorf("got %+v; want a section with two keys and nothing to set", debug)
	}
}

func TestExplainKnowsEveryKey(t *testing.T) {
	newSchema().Walk(func(n *settings.Key) {
		for _, key := range []string{n.Path, strings.ReplaceAll(n.Path, "[]", "")} {
			doc, err := Explain(key)
			if err != nil || doc.Key != n.Path || doc.Text == "" {
				t.Errorf("Explain(%q): %+v, %v", key, doc, err)
			}
		}
	})
	all, err := Explain("")
	if err != nil || all.Type != "profile" || len(all.Children) != 8 {
		t.Errorf("Explain of everything: %q with %d keys, %v", all.Type, len(all.Children), err)
	}
}

func TestExplainUnknown(t *testing.T) {
	for key, near := range map[string]string{"network.mut": "network.mtu", "mtu": "network.mtu", "netwrok": "network", "network.mtu.x": ""} {
		_, err := Explain(key)
		var p *Problem
		if !errors.As(err, &p) || p.Nearest != near || p.Key != key {
			t.Errorf("Explain(%q): %v; want the nearest %q", key, err, near)
		}
	}
}

func TestJSONSchema(t *testing.T) {
	data, err := JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	schema := compileSchema(t, data)
	check := func(text string) error {
		var v any
		if err := yaml.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		return schema.Validate(asJSON(t, v))
	}
	for _, name := range shippedNames() {
		text, err := shipped.ReadFile(name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		if err := check(string(text)); err != nil {
			t.Errorf("shipped profile %s: %v", name, err)
		}
	}
	if err := check(head + "network: {mtu: 0, kubeProxyReplacement: disabled}\nverify: {timeout: 1m, skip: [a]}\n"); err != nil {
		t.Error(err)
	}
	if err := check(head + "cluster: {kubeProxyMode: none}\nnetwork: {kubeProxyReplacement: strict}\n"); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{
		head + "netwrok: {}\n", head + "network: {dubug: {}}\n", head + "network: {mtu: big}\n", head + "network: {mtu: 5}\n",
		head + "network: {kubeProxyReplacement: partial}\n", head + "demo: {nodePort: 80}\n", head + "network: {routingMode: overlay}\n",
		head + "cluster: {registryMirrors: [{host: a}]}\n", "kind: Profile\n", strings.Replace(head, "v1alpha1", "v2", 1),
	} {
		if check(bad) == nil {
			t.Errorf("the schema allows:\n%s", bad)
		}
	}
}

func compileSchema(t *testing.T, data []byte) *jsonschema.Schema {
	t.Helper()
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("schema.json", parsed); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// asJSON is v as the schema library wants instances: what JSON makes of it.
func asJSON(t *testing.T, v any) any {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return instance
}

func readFileOrFail(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
