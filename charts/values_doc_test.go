package charts_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"wirelab.dev/wirelab/internal/pagetest"
	"wirelab.dev/wirelab/internal/settings"
)

// TestValuesAreDocumented holds the page's table against values.yaml, which says what each value does and what it is by
// default, and against the schema, which says what it may be.
func TestValuesAreDocumented(t *testing.T) {
	pagetest.Hold(t, "../docs/chart.md", "values", "go test ./charts -update", valuesTable(t), *update)
}

// valueSchema is as much of a value's schema as a reader wants to know.
type valueSchema struct {
	Type       string                 `json:"type"`
	Enum       []any                  `json:"enum"`
	Const      any                    `json:"const"`
	OneOf      []valueSchema          `json:"oneOf"`
	Minimum    *int                   `json:"minimum"`
	Maximum    *int                   `json:"maximum"`
	Pattern    string                 `json:"pattern"`
	Items      *valueSchema           `json:"items"`
	Properties map[string]valueSchema `json:"properties"`
}

// without is the schema less the words that are known and refused with a reason.
func (s valueSchema) without(refused map[string]string) valueSchema {
	is := func(v any) bool { return refused[fmt.Sprint(v)] != "" }
	s.Enum = slices.DeleteFunc(slices.Clone(s.Enum), is)
	if s.Items != nil {
		items := s.Items.without(refused)
		s.Items = &items
	}
	return s
}

// choices says in words what the value may be.
func (s valueSchema) choices() string {
	switch {
	case len(s.Enum) > 0:
		words := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			words[i] = yamlOf(v)
		}
		return strings.Join(words, ", ")
	case len(s.OneOf) > 0:
		words := make([]string, len(s.OneOf))
		for i, one := range s.OneOf {
			words[i] = one.choices()
		}
		return strings.Join(words, ", or ")
	case s.Const != nil:
		return yamlOf(s.Const)
	case s.Type == "boolean":
		return "`true`, `false`"
	case s.Type == "integer":
		return fmt.Sprintf("%d to %d", *s.Minimum, *s.Maximum)
	case s.Type == "array" && len(s.Items.Enum) > 0:
		return "a list of " + s.Items.choices()
	case s.Type == "array" && s.Items.Pattern == cidr:
		return "a list of IPv4 CIDRs"
	case s.Type == "array":
		return "a list of texts"
	case s.Pattern == cidr:
		return "an IPv4 CIDR, or empty"
	case s.Type == "object":
		return "texts by key"
	}
	return "a text"
}

// yamlOf is a value as one writes it.
func yamlOf(v any) string {
	data, _ := json.Marshal(v) //nolint:errchkjson // a value of a schema
	if text, is := v.(string); is && text != "" && text != "true" && text != "false" {
		return "`" + text + "`"
	}
	return "`" + string(data) + "`"
}

// valuesTable has a row a value, in the order of values.yaml.
func valuesTable(t *testing.T) string {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal(raw(t, "values.yaml"), &doc); err != nil {
		t.Fatal(err)
	}
	var schema valueSchema
	if err := json.Unmarshal(raw(t, "values.schema.json"), &schema); err != nil {
		t.Fatal(err)
	}
	refused := map[string]map[string]string{}
	settings.Keys().Walk(func(k *settings.Key) { refused[chartPath(k)] = k.Refused })
	rows := []string{"| value | default | may be | what it does |", "|---|---|---|---|"}
	var section func(path string, of *yaml.Node, schema valueSchema)
	section = func(path string, of *yaml.Node, schema valueSchema) {
		for pair := range slices.Chunk(of.Content, 2) {
			key, value := pair[0], pair[1]
			name := strings.TrimPrefix(path+"."+key.Value, ".")
			s, known := schema.Properties[key.Value]
			if !known {
				t.Errorf("the schema does not know %s", name)
			}
			s = s.without(refused[name])
			comments := strings.Split(key.HeadComment, "\n\n") // what stands apart is not about this value
			does := strings.Join(strings.Fields(strings.ReplaceAll("\n"+comments[len(comments)-1], "\n#", "\n")), " ")
			if len(s.Properties) == 0 {
				if does == "" {
					t.Errorf("values.yaml does not say what %s does", name)
				}
				rows = append(rows, fmt.Sprintf("| `%s` | `%s` | %s | %s |", name, literal(t, value), s.choices(), strings.ReplaceAll(does, "*", `\*`)))
				continue
			}
			if does != "" {
				rows = append(rows, fmt.Sprintf("| `%s` | | | %s |", name, strings.ReplaceAll(does, "*", `\*`)))
			}
			section(name, value, s)
		}
	}
	section("", doc.Content[0], schema)
	return strings.Join(rows, "\n") + "\n"
}

// literal is a value in one line of YAML.
func literal(t *testing.T, n *yaml.Node) string {
	t.Helper()
	var v any
	if err := n.Decode(&v); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if text, is := v.(string); is && text != "" {
		return text
	}
	return string(data)
}
