package profiles

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// JSONSchema is a JSON Schema (draft 7) of profile files, for editors that complete and
// check YAML. It is made from the same table as loading, and refuses unknown keys too;
// rules that involve several keys are left to [Load].
func JSONSchema() ([]byte, error) {
	schema := newSchema().jsonSchema()
	schema["$schema"] = "http://json-schema.org/draft-07/schema#"
	schema["title"] = "wirelab profile"
	data, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the JSON schema: %w", err)
	}
	return append(data, '\n'), nil
}

func (n *node) jsonSchema() map[string]any {
	s := map[string]any{"description": n.text}
	switch n.shape {
	case section:
		n.jsonObject(s)
	case mirrors:
		item := map[string]any{}
		n.jsonObject(item)
		s["type"], s["items"] = "array", item
	case texts:
		s["type"], s["items"] = "array", map[string]any{"type": "string"}
	case whole:
		s["type"] = "integer"
		n.jsonRange(s)
	case toggle:
		n.jsonToggle(s)
	default:
		s["type"] = "string"
		if len(n.allowed) > 0 {
			s["enum"] = n.allowed
		}
	}
	return s
}

func (n *node) jsonObject(s map[string]any) {
	properties, required := map[string]any{}, []string{}
	for _, c := range n.below {
		properties[c.name] = c.jsonSchema()
		if c.required || c.name == "metadata" {
			required = append(required, c.name)
		}
	}
	s["type"], s["properties"], s["additionalProperties"] = "object", properties, false
	if len(required) > 0 {
		s["required"] = required
	}
}

func (n *node) jsonRange(s map[string]any) {
	if n.max == 0 {
		return
	}
	bounds := map[string]any{"minimum": n.min, "maximum": n.max}
	if n.zero {
		s["anyOf"] = []any{map[string]any{"const": 0}, bounds}
		return
	}
	s["minimum"], s["maximum"] = n.min, n.max
}

// jsonToggle allows true and false, as far as the table does, and the older words.
func (n *node) jsonToggle(s map[string]any) {
	if len(n.allowed) == 0 && len(n.words) == 0 {
		s["type"] = "boolean"
		return
	}
	var values []any
	for _, raw := range n.allowed {
		if v, err := strconv.ParseBool(raw); err == nil {
			values = append(values, v)
		}
	}
	for _, word := range slices.Sorted(maps.Keys(n.words)) {
		values = append(values, word)
	}
	s["enum"] = values
}
