package profiles

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"wirelab.dev/wirelab/internal/settings"
)

// noAnchors is the answer to YAML's own ways of repeating a value.
const noAnchors = "anchors, aliases and merge keys are not used in profiles; write the value out, or share it through extends"

// layer is what one source says: values nested as in the file, each converted to what
// its field holds, and where each came from.
type layer struct {
	values  map[string]any
	origins map[string]origin
}

// origin is the place that a value came from.
type origin struct {
	source string
	line   int
	// rank is higher for what counts more; 0 for defaults.
	rank int
}

// reader walks one YAML document along the schema and notes everything wrong with it.
type reader struct {
	source string
	found  *problems
	layer  layer
	// first is how many problems there were before this file.
	first int
}

// readLayer reads one profile file strictly. Values that are wrong are left out of the
// layer, so that reading can go on and report the rest. It reports false when the file
// could not be read at all.
func readLayer(root *settings.Key, source string, data []byte, found *problems) (layer, bool) {
	r := &reader{source: source, found: found, layer: layer{values: map[string]any{}, origins: map[string]origin{}}, first: len(*found)}
	document, bad := parseYAML(data)
	if !isProfile(root, document, data) && (bad == nil || !harmless(bad.Message)) {
		// Nothing of it is told: it may be a file that only the user lab runs as may read.
		found.add(&Problem{Source: source, Message: "this is no profile, which has apiVersion: " + APIVersion + " and kind: " + Kind + "; nothing of it is used or shown"})
		return r.layer, false
	}
	if bad != nil {
		bad.Source = source
		found.add(bad)
		return r.layer, false
	}
	r.layer.values = r.section(root, document, "")
	r.demandRequired(root, r.layer.values, "", document.Line)
	if r.full() {
		found.add(&Problem{Source: source, Line: document.Line, Message: fmt.Sprintf("more than %d things are wrong with this file; the rest is not shown", maxProblems)})
		return r.layer, false
	}
	return r.layer, true
}

// full tells whether enough is known to be wrong with this file.
func (r *reader) full() bool { return len(*r.found)-r.first >= maxProblems }

// profileLine is how a profile begins, in YAML that may be broken further down.
var profileLine = regexp.MustCompile(`(?m)^[\s{,]*["']?(?:apiVersion["']?\s*:\s*["']?wirelab\.dev/|kind["']?\s*:\s*["']?` + Kind + `["']?\s*$)`)

// harmless tells whether what is wrong with a whole file can be said without quoting it.
func harmless(message string) bool {
	for _, part := range []string{"the file is empty", "a profile is a mapping", "mapping values are not allowed", "cannot start any token"} {
		if strings.Contains(message, part) {
			return true
		}
	}
	return false
}

// isProfile tells whether a file means to be a profile: one of its two marks is there, well written, or both have been
// forgotten and nothing stands at its top that a profile does not have. top is nil where the file could not be read as YAML.
func isProfile(root *settings.Key, top *yaml.Node, data []byte) bool {
	if top == nil {
		return profileLine.Match(data)
	}
	forgotten := true
	for i := 0; i+1 < len(top.Content); i += 2 {
		switch key, value := top.Content[i].Value, top.Content[i+1].Value; {
		case key == "apiVersion" && strings.HasPrefix(value, "wirelab.dev/"), key == "kind" && value == Kind:
			return true
		case key == "apiVersion", key == "kind", root.Child(key) == nil:
			forgotten = false
		}
	}
	return forgotten
}

// parseYAML gives the one mapping that a profile file consists of.
func parseYAML(data []byte) (*yaml.Node, *Problem) {
	decoder := yaml.NewDecoder(strings.NewReader(string(data)))
	var document, second yaml.Node
	err := decoder.Decode(&document)
	switch {
	case errors.Is(err, io.EOF):
		return nil, &Problem{Message: "the file is empty; a profile starts with apiVersion: " + APIVersion}
	case err != nil:
		return nil, yamlProblem(err)
	}
	if err := decoder.Decode(&second); err == nil {
		return nil, &Problem{Line: second.Line, Message: "a second document starts here; a file holds one profile"}
	} else if !errors.Is(err, io.EOF) {
		return nil, yamlProblem(err)
	}
	top := document.Content[0]
	if top.Kind != yaml.MappingNode {
		return nil, &Problem{Line: top.Line, Message: "a profile is a mapping of keys to values; it starts with apiVersion: " + APIVersion}
	}
	return top, nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// yamlProblem takes the line number out of the parser's message.
func yamlProblem(err error) *Problem {
	message := err.Error()
	p := &Problem{}
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		message = strings.TrimPrefix(message, m[0])
	}
	if strings.Contains(message, "cannot start any token") {
		message += " (YAML is indented with spaces, not tabs)"
	}
	p.Message = "this is not YAML: " + message
	return p
}

func (r *reader) bad(at *yaml.Node, key, format string, args ...any) {
	r.found.add(&Problem{Source: r.source, Line: at.Line, Key: key, Message: fmt.Sprintf(format, args...)})
}

// section reads the mapping y as n, whose full path in this file is path.
func (r *reader) section(n *settings.Key, y *yaml.Node, path string) map[string]any {
	values := map[string]any{}
	if isNull(y) {
		return values // a section whose keys are all commented out
	}
	if y.Kind != yaml.MappingNode {
		r.bad(y, path, "%s stands where a section belongs; its keys are %s", describe(y), n.Names())
		return values
	}
	lines := map[string]int{}
	for i := 0; i+1 < len(y.Content) && !r.full(); i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		full := settings.Join(path, key.Value)
		if first, twice := lines[key.Value]; twice {
			r.bad(key, full, "set twice, first in line %d; keep one of them", first)
			continue
		}
		lines[key.Value] = key.Line
		child := n.Child(key.Value)
		if child == nil || key.Kind != yaml.ScalarNode {
			r.unknown(n, key, value, full)
			continue
		}
		if v, ok := r.value(child, value, full); ok {
			values[key.Value] = v
			r.layer.origins[full] = origin{source: r.source, line: value.Line}
		}
	}
	return values
}

// unknown reports a key that n does not have.
func (r *reader) unknown(n *settings.Key, key, value *yaml.Node, path string) {
	var p *Problem
	_, _, nested := n.Find(key.Value)
	switch {
	case key.Value == "<<" || key.Kind == yaml.AliasNode:
		p = &Problem{Key: path, Message: noAnchors}
	case key.Kind != yaml.ScalarNode:
		p = &Problem{Key: strings.TrimSuffix(path, "."), Message: describe(key) + " stands where a key belongs"}
	case nested && key.Value != "":
		p = &Problem{Key: path, Message: "keys are nested in a file: each part stands on a line of its own, indented below the one before"}
	default:
		p = unknownKey(n, path, key.Value, value.Value)
	}
	p.Source, p.Line = r.source, key.Line
	r.found.add(p)
}

// value reads y as n. It reports false when there is nothing to keep.
func (r *reader) value(n *settings.Key, y *yaml.Node, path string) (any, bool) {
	if y.Kind == yaml.AliasNode || y.Anchor != "" {
		r.bad(y, path, "%s", noAnchors)
		return nil, false
	}
	switch n.Shape {
	case settings.Section:
		return r.section(n, y, path), true
	case settings.TextList:
		return r.texts(y, path)
	case settings.SectionList:
		return r.mirrors(n, y, path)
	}
	if y.Kind != yaml.ScalarNode {
		r.bad(y, path, "%s stands where a %s belongs", describe(y), n.Word())
		return nil, false
	}
	if isNull(y) {
		r.bad(y, path, "has no value; write one or remove the line")
		return nil, false
	}
	if quoted := y.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0; quoted && (n.Shape == settings.Whole || n.Shape == settings.Toggle && n.Words[y.Value] == "") {
		if _, bad := n.Convert(y.Value); bad == nil {
			r.bad(y, path, "%q is text; write %s without quotes", y.Value, y.Value)
			return nil, false
		}
	}
	v, bad := n.Scalar(y.Value)
	if bad != nil {
		r.found.add(&Problem{Source: r.source, Line: y.Line, Key: path, Message: bad.Message, Nearest: bad.Nearest})
		return nil, false
	}
	return v, true
}

func isNull(y *yaml.Node) bool { return y.Kind == yaml.ScalarNode && y.Tag == "!!null" }

// describe says what y is in words a person uses.
func describe(y *yaml.Node) string {
	switch y.Kind {
	case yaml.MappingNode:
		return "a section"
	case yaml.SequenceNode:
		return "a list"
	default:
		return strconv.Quote(y.Value)
	}
}
