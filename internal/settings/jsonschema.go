package settings

import (
	"maps"
	"slices"
	"strconv"
)

// JSONSchema is a JSON Schema (draft 7) of what stands at k. It refuses unknown keys; rules that involve several keys
// are not in it.
func (k *Key) JSONSchema() map[string]any {
	s := map[string]any{"description": k.Text}
	switch k.Shape {
	case Section:
		k.jsonObject(s)
	case SectionList:
		item := map[string]any{}
		k.jsonObject(item)
		s["type"], s["items"] = "array", item
	case TextList:
		item := map[string]any{"type": "string"}
		if len(k.Allowed) > 0 {
			item["enum"] = k.Allowed
		}
		s["type"], s["items"] = "array", item
	case Whole:
		s["type"] = "integer"
		k.jsonRange(s)
	case Toggle:
		k.jsonToggle(s)
	default:
		s["type"] = "string"
		if len(k.Allowed) > 0 {
			s["enum"] = k.Allowed
		}
	}
	return s
}

func (k *Key) jsonObject(s map[string]any) {
	properties, required := map[string]any{}, []string{}
	for _, c := range k.Below {
		properties[c.Name] = c.JSONSchema()
		if c.Required || c.Shape == Section && slices.ContainsFunc(c.Below, func(b *Key) bool { return b.Required }) {
			required = append(required, c.Name)
		}
	}
	s["type"], s["properties"], s["additionalProperties"] = "object", properties, false
	if len(required) > 0 {
		s["required"] = required
	}
}

func (k *Key) jsonRange(s map[string]any) {
	if k.Max == 0 {
		return
	}
	bounds := map[string]any{"minimum": k.Min, "maximum": k.Max}
	if k.Zero {
		s["anyOf"] = []any{map[string]any{"const": 0}, bounds}
		return
	}
	s["minimum"], s["maximum"] = k.Min, k.Max
}

// jsonToggle allows true and false, as far as the table does, and the older words.
func (k *Key) jsonToggle(s map[string]any) {
	if len(k.Allowed) == 0 && len(k.Words) == 0 {
		s["type"] = "boolean"
		return
	}
	var values []any
	for _, raw := range k.Allowed {
		if v, err := strconv.ParseBool(raw); err == nil {
			values = append(values, v)
		}
	}
	for _, word := range slices.Sorted(maps.Keys(k.Words)) {
		values = append(values, word)
	}
	s["enum"] = values
}
