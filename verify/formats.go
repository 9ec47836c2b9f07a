package verify

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// WriteJSON writes the report as one indented JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(struct {
		Passed bool `json:"passed"`
		*Report
	}{r.Passed(), r}); err != nil {
		return fmt.Errorf("write the report as JSON: %w", err)
	}
	return nil
}

type junitSuite struct {
	XMLName   xml.Name    `xml:"testsuite"`
	Name      string      `xml:"name,attr"`
	Tests     int         `xml:"tests,attr"`
	Failures  int         `xml:"failures,attr"`
	Errors    int         `xml:"errors,attr"`
	Skipped   int         `xml:"skipped,attr"`
	Time      string      `xml:"time,attr"` // in seconds
	Timestamp string      `xml:"timestamp,attr"`
	Settings  []junitPair `xml:"properties>property"`
	Cases     []junitCase `xml:"testcase"`
}

type junitPair struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Name      string        `xml:"name,attr"`
	Class     string        `xml:"classname,attr"`
	Time      string        `xml:"time,attr"`
	Failure   *junitProblem `xml:"failure"`
	Skipped   *junitSkipped `xml:"skipped"`
	Error     *junitProblem `xml:"error"`
	SystemOut string        `xml:"system-out,omitempty"`
}

type junitSkipped struct {
	Message string `xml:"message,attr"`
}

type junitProblem struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes one JUnit test suite, a test case a check, also for each that was skipped. It validates against the
// schemas of Jenkins' xUnit plugin (junit-10.xsd) and of Maven's Surefire (surefire-test-report.xsd), which other CI systems
// read as well; testdata/junit-schema.json is what they have in common.
func (r *Report) WriteJUnit(w io.Writer) error {
	suite := junitSuite{
		Name: "lab " + r.Lab, Tests: len(r.Results) + len(r.Skipped), Failures: r.Count(Fail), Errors: r.Count(Error), Skipped: len(r.Skipped),
		Time: junitSeconds(r.Duration), Timestamp: r.Started.UTC().Format("2006-01-02T15:04:05"),
		Settings: []junitPair{{"lab", r.Lab}, {"mode", r.Mode}},
	}
	for _, what := range slices.Sorted(maps.Keys(r.About)) {
		suite.Settings = append(suite.Settings, junitPair{what, r.About[what]})
	}
	for _, result := range r.Results {
		suite.Cases = append(suite.Cases, junitCaseOf(result))
	}
	for _, s := range r.Skipped {
		group, name, _ := strings.Cut(s.Name, "/")
		suite.Cases = append(suite.Cases, junitCase{Name: name, Class: group, Time: junitSeconds(0), Skipped: &junitSkipped{s.Why}})
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return fmt.Errorf("write the report as JUnit: %w", err)
	}
	encoder := xml.NewEncoder(w)
	encoder.Indent("", "  ")
	if err := encoder.Encode(suite); err != nil {
		return fmt.Errorf("write the report as JUnit: %w", err)
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func junitCaseOf(result Result) junitCase {
	group, name, _ := strings.Cut(result.Name, "/")
	c := junitCase{Name: name, Class: group, Time: junitSeconds(result.Duration)}
	problem := &junitProblem{Message: result.Claim, Text: findingsText(result.Wrong)}
	switch result.Status {
	case Fail:
		problem.Type = "claim"
		c.Failure = problem
	case Error:
		problem.Text, problem.Type = result.Error, "look"
		c.Error = problem
	}
	c.SystemOut = strings.Join(result.Seen, "\n")
	return c
}

// findingsText has three lines a finding.
func findingsText(findings []Finding) string {
	var lines []string
	for _, f := range findings {
		lines = append(lines, f.About, "  want: "+f.Want, "  seen: "+f.Seen)
	}
	return strings.Join(lines, "\n")
}

func junitSeconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
