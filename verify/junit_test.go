package verify

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// junitSchema is what testdata/junit-schema.json says of JUnit reports.
type junitSchema struct {
	Root     string
	Elements map[string]struct {
		Required, Optional map[string]string
		Children           []struct {
			Name string
			Most *int
		}
		Text bool
	}
}

func readSchema(t *testing.T) junitSchema {
	t.Helper()
	raw, err := os.ReadFile("testdata/junit-schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s junitSchema
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// element is any element of a document.
type element struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Children []element  `xml:",any"`
	Text     string     `xml:",chardata"`
}

// validate tells all that is wrong with a document.
func (s junitSchema) validate(document []byte) error {
	var root element
	if err := xml.Unmarshal(document, &root); err != nil {
		return err
	}
	if root.XMLName.Local != s.Root {
		return fmt.Errorf("the root is %s, want %s", root.XMLName.Local, s.Root)
	}
	return errors.Join(s.element(root), counts(root))
}

func (s junitSchema) element(e element) error {
	name := e.XMLName.Local
	spec, known := s.Elements[name]
	if !known {
		return fmt.Errorf("there is no element %s", name)
	}
	var errs []error
	has := map[string]bool{}
	for _, a := range e.Attrs {
		pattern, required := spec.Required[a.Name.Local]
		if !required {
			pattern, known = spec.Optional[a.Name.Local]
		}
		if !required && !known {
			errs = append(errs, fmt.Errorf("%s has no attribute %s", name, a.Name.Local))
		} else if !regexp.MustCompile(`^(?s:` + pattern + `)$`).MatchString(a.Value) {
			errs = append(errs, fmt.Errorf("%s of %s is %q, want %s", a.Name.Local, name, a.Value, pattern))
		}
		has[a.Name.Local] = true
	}
	for attribute := range spec.Required {
		if !has[attribute] {
			errs = append(errs, fmt.Errorf("%s lacks %s", name, attribute))
		}
	}
	if !spec.Text && strings.TrimSpace(e.Text) != "" {
		errs = append(errs, fmt.Errorf("%s has text: %q", name, e.Text))
	}
	at, times := 0, map[string]int{}
	for _, child := range e.Children {
		is := child.XMLName.Local
		place := slices.IndexFunc(spec.Children, func(c struct {
			Name string
			Most *int
		}) bool {
			return c.Name == is
		})
		times[is]++
		switch {
		case place < 0:
			errs = append(errs, fmt.Errorf("%s holds no %s", name, is))
			continue
		case place < at:
			errs = append(errs, fmt.Errorf("%s of %s is out of order", is, name))
		case spec.Children[place].Most != nil && times[is] > *spec.Children[place].Most:
			errs = append(errs, fmt.Errorf("%s holds %s more than %d times", name, is, *spec.Children[place].Most))
		}
		at = max(at, place)
		errs = append(errs, s.element(child))
	}
	return errors.Join(errs...)
}

// counts compares what the suite says of its cases with the cases.
func counts(suite element) error {
	says := map[string]string{}
	for _, a := range suite.Attrs {
		says[a.Name.Local] = a.Value
	}
	have := map[string]int{"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
	for _, c := range suite.Children {
		if c.XMLName.Local != "testcase" {
			continue
		}
		have["tests"]++
		for _, outcome := range c.Children {
			switch outcome.XMLName.Local {
			case "failure":
				have["failures"]++
			case "error":
				have["errors"]++
			case "skipped":
				have["skipped"]++
			}
		}
	}
	var errs []error
	for what, n := range have {
		if says[what] != strconv.Itoa(n) {
			errs = append(errs, fmt.Errorf("the suite says %s %s, and has %d", what, says[what], n))
		}
	}
	return errors.Join(errs...)
}

func TestJUnitValidates(t *testing.T) {
	schema := readSchema(t)
	strange := sampleReport()
	strange.Results[1].Wrong[0].Seen = "\x00 \x1b[31m ]]> <b> & \xff"
	strange.Lab, strange.Duration = "a-b", 4321e9
	down := sampleReport()
	down.Results = append(downResults(map[string]string{"worker": "is paused"}), down.Results...)
	for name, report := range map[string]*Report{
		"a report": sampleReport(), "one with strange text": strange, "one of a lab with a node that is down": down,
		"one of a run that could not begin": NotRun("a-b", Kind{}, Selection{}, []Check{{Name: "a/b", Claim: "It holds."}}, errors.New("docker is not running")),
	} {
		var b bytes.Buffer
		if err := report.WriteJUnit(&b); err != nil {
			t.Fatal(err)
		}
		if err := schema.validate(b.Bytes()); err != nil {
			t.Errorf("%s: %v\n%s", name, err, b.String())
		}
		if !strings.Contains(b.String(), `<testsuite name="lab `+report.Lab+`"`) {
			t.Errorf("%s: the suite does not name the lab: %s", name, b.String())
		}
	}
}

// TestJUnitSchemaRefuses shows that what validates does not do so whatever it is.
func TestJUnitSchemaRefuses(t *testing.T) {
	schema := readSchema(t)
	var b bytes.Buffer
	if err := sampleReport().WriteJUnit(&b); err != nil {
		t.Fatal(err)
	}
	for _, edit := range []struct{ was, is, want string }{
		{`errors="1" `, ``, "testsuite lacks errors"},
		{`failures="1"`, `failures="2"`, "says failures 2, and has 1"},
		{`time="12.300"`, `time="12.3s"`, "time of testsuite"},
		{`<testcase name="arp"`, `<testcase mode="x" name="arp"`, "testcase has no attribute mode"},
		{`<properties>`, `<testcase name="x" time="1"></testcase><properties>`, "properties of testsuite is out of order"},
		{`<properties>`, `<problem></problem><properties>`, "testsuite holds no problem"},
		{`type="claim"`, `kind="claim"`, "failure lacks type"},
		{`<system-out>pod a asks`, `loose<system-out>pod a asks`, "testcase has text"},
		{`<system-out>pod a asks`, `<system-out></system-out><system-out>pod a asks`, "more than 1 times"},
		{`skipped="1"`, `skipped="0"`, "says skipped 0, and has 1"},
		{`value="kubeproxy"`, `worth="kubeproxy"`, "property lacks value"},
	} {
		spoilt := strings.Replace(b.String(), edit.was, edit.is, 1)
		if spoilt == b.String() {
			t.Fatalf("%q is not in the report", edit.was)
		}
		if err := schema.validate([]byte(spoilt)); err == nil || !strings.Contains(err.Error(), edit.want) {
			t.Errorf("with %s in place of %s: %v, want %q", edit.is, edit.was, err, edit.want)
		}
	}
}
