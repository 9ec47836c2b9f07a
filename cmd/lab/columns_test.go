package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"wirelab.dev/wirelab/internal/doctor"
	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/labs"
	"wirelab.dev/wirelab/profiles"
	"wirelab.dev/wirelab/verify"
)

// TestOutputFitsTheScreen: tables and progress in as many columns as COLUMNS says, with nothing of a table left out.
func TestOutputFitsTheScreen(t *testing.T) {
	t.Setenv("COLUMNS", "60")
	s := twoNodes()
	s.Ready, s.Problems = false, []kube.Problem{{Want: "node a-worker", Why: "is partly reached from a-control-plane: its address 172.18.0.3 by tcp, not by icmp (no answer)"}}
	outputs := map[string]string{
		"status":  statusText(s, true),
		"list":    labsText([]labs.Summary{{Name: "a", Profile: "kubeproxy-replacement", State: labs.StateDegraded, Image: "kindest/node:v1.36.1@sha256:abc", Down: []string{"node a-worker is stopped", "node a-worker2 is paused"}, Created: time.Now()}}),
		"doctor":  doctorText([]doctor.Finding{{Name: "kernel", State: doctor.Missing, Found: "5.10 is too old for what is to be done here", Mend: "boot one of at least 5.15, or use another machine"}}),
		"columns": diffText("one", "two", []profiles.Change{{Key: "network.bpf.monitorAggregation", A: "maximum-of-all", B: "none-of-them-at-all"}}),
	}
	for _, args := range [][]string{{"profile", "explain"}, {"profile", "list"}, {"profile", "diff", "kubeproxy", "ebpf"}, {"verify", "--list"}} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, strings.NewReader(""), &out, &errs); code != exitFine {
			t.Fatalf("%q: %d, %s", args, code, errs.String())
		}
		outputs[strings.Join(args, " ")] = out.String()
	}
	var progress bytes.Buffer
	p := newProgress(&progress, false)
	p.event(labs.Event{Step: "cluster", State: labs.StepRunning})
	p.event(labs.Event{Step: "cluster", State: labs.StepDone, Note: strings.Repeat("note ", 30)})
	p.event(labs.Event{Step: strings.Repeat("step", 30), State: labs.StepUndoing})
	p.event(labs.Event{Step: strings.Repeat("step", 30), State: labs.StepFailed})
	showChecks(&progress)(verify.Progress{Step: strings.Repeat("step ", 30)})
	benchProgress(&progress)(strings.Repeat("what ", 30), 0, 2)
	outputs["progress"] = progress.String()
	for name, text := range outputs {
		if text == "" {
			t.Errorf("%s prints nothing", name)
		}
		for line := range strings.Lines(text) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 60 {
				t.Errorf("%s: %d columns: %s", name, n, line)
			}
		}
	}
	for name, want := range map[string]string{"status": "MASQUERADING BPF", "doctor": "or use another machine", "list": "node a-worker2 is paused", "progress": "…"} {
		if !strings.Contains(strings.Join(strings.Fields(outputs[name]), " "), want) {
			t.Errorf("no %q in %s:\n%s", want, name, outputs[name])
		}
	}
}
