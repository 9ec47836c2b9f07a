package verify

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func sampleReport() *Report {
	return &Report{
		Lab: "kubeproxy", Mode: ModeKubeProxy,
		Started: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), Setup: 4100 * time.Millisecond, Duration: 12300 * time.Millisecond,
		Results: []Result{
			{Name: "paths/arp", Claim: "Whatever address a pod asks for but its own, the MAC that answers is that of its host-side veth.", Status: Pass,
				Seen: []string{"pod a asks who has 10.244.0.1, the router: 0a:00:00:00:00:01 answers"}, Duration: 120 * time.Millisecond},
			{Name: "services/hairpin", Claim: "A pod reaches itself through its own Service.", Status: Fail,
				Wrong: []Finding{{"pod a -> itself <through> Service \"one\"", "an answer by pod a", "no answer within 3s\nsecond line & more"}}, Seen: []string{"pod a -> nodePort: answered"}, Duration: 3 * time.Second},
			{Name: "dns/service", Claim: "Every pod resolves a Service's name.", Status: Error, Error: "pod b: the probe could not be sent: no such command", Duration: time.Second},
		},
		About:   map[string]string{"profile": "kubeproxy", "kernel": "6.12.1", "kubernetes": "v1.37.0", "version": "v0.1"},
		Skipped: []Skipped{{"rules/none", "No rule of iptables is there for a Service.", "it is claimed of mode ebpf, and the lab's is kubeproxy"}},
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs:\n%s\nwant:\n%s", path, got, want)
	}
}

func TestReportFormats(t *testing.T) {
	for name, write := range map[string]func(*Report, *bytes.Buffer) error{
		"report.txt":         func(r *Report, b *bytes.Buffer) error { return r.WriteText(b, false) },
		"report-verbose.txt": func(r *Report, b *bytes.Buffer) error { return r.WriteText(b, true) },
		"report.json":        func(r *Report, b *bytes.Buffer) error { return r.WriteJSON(b) },
		"report.xml":         func(r *Report, b *bytes.Buffer) error { return r.WriteJUnit(b) },
		"report.md":          func(r *Report, b *bytes.Buffer) error { return r.WriteMarkdown(b) },
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := write(sampleReport(), &b); err != nil {
				t.Fatal(err)
			}
			golden(t, name, b.Bytes())
			if strings.HasSuffix(name, ".txt") {
				for line := range strings.Lines(b.String()) {
					if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > textWidth {
						t.Errorf("%d columns: %q", n, line)
					}
				}
			}
		})
	}
}

func TestReportReadsBack(t *testing.T) {
	var b bytes.Buffer
	if err := sampleReport().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var read struct {
		Passed  bool
		Results []Result
		Skipped []Skipped
	}
	if err := json.Unmarshal(b.Bytes(), &read); err != nil {
		t.Fatal(err)
	}
	if read.Passed || len(read.Results) != 3 || len(read.Skipped) != 1 || read.Results[1].Status != Fail {
		t.Errorf("read back: %+v", read)
	}
	b.Reset()
	if err := sampleReport().WriteJUnit(&b); err != nil {
		t.Fatal(err)
	}
	var suite junitSuite
	if err := xml.Unmarshal(b.Bytes(), &suite); err != nil {
		t.Fatal(err)
	}
	if suite.Tests != 4 || suite.Skipped != 1 || suite.Cases[3].Skipped == nil || suite.Failures != 1 || suite.Errors != 1 || suite.Cases[1].Failure == nil || suite.Cases[2].Error == nil || suite.Cases[0].Failure != nil {
		t.Errorf("read back: %+v", suite)
	}
}

func TestPassedNeedsEveryCheck(t *testing.T) {
	r := sampleReport()
	if r.Passed() {
		t.Error("a report with a failure and an error has passed")
	}
	r.Results = r.Results[:1]
	if !r.Passed() {
		t.Error("a report of a passed check has not passed")
	}
	r.Results = nil
	if r.Passed() {
		t.Error("a report without results has passed")
	}
}
