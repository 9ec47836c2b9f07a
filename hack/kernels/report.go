package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// report is what came of a run under one kernel.
type report struct {
	kernel, version string
	took            time.Duration
	packages        map[string]*outcome // by suite
	console         []byte
	err             error // of the machine itself
}

// outcome is what came of a package's tests.
type outcome struct {
	said   bytes.Buffer
	status string // of the process; empty when it did not end
}

// result is what came of one test, or of a part of one.
type result struct {
	action string // pass, fail or skip; empty when it did not end
	said   strings.Builder
}

// results takes apart what the tests said.
func (o *outcome) results() (map[string]*result, error) {
	convert := exec.Command("go", "tool", "test2json")
	convert.Stdin = bytes.NewReader(o.said.Bytes())
	events, err := convert.Output()
	if err != nil {
		return nil, fmt.Errorf("take apart what tests said: %w", err)
	}
	tests := map[string]*result{}
	for decoder := json.NewDecoder(bytes.NewReader(events)); ; {
		var e struct{ Action, Test, Output string }
		if err := decoder.Decode(&e); err == io.EOF {
			return tests, nil
		} else if err != nil {
			return nil, err
		}
		if e.Test == "" {
			continue
		}
		if tests[e.Test] == nil {
			tests[e.Test] = &result{}
		}
		t := tests[e.Test]
		switch e.Action {
		case "output":
			t.said.WriteString(e.Output)
		case "pass", "fail", "skip":
			t.action = e.Action
		}
	}
}

// lacking is what netnstest.Needs says when it skips a test, which it does when the table of kernels allows it.
const lacking = ", as the table of kernels says"

// problems are why the run under this kernel does not count. ran are the tests that did, by folder and name.
func (r *report) problems(packages []suite, ran map[string]bool) (found []string) {
	if r.err != nil {
		found = append(found, r.err.Error())
	}
	for _, p := range packages {
		o := r.packages[p.name()]
		if o == nil {
			found = append(found, "the tests of "+p.name()+" did not begin")
			continue
		}
		if o.status != "0" {
			found = append(found, fmt.Sprintf("the tests of %s ended with status %q", p.name(), o.status))
		}
		tests, err := o.results()
		if err != nil {
			found = append(found, err.Error())
		}
		for name, t := range tests {
			switch {
			case t.action == "pass":
				ran[p.name()+" "+name] = true
			case t.action == "skip" && strings.Contains(t.said.String(), lacking):
				if _, known := ran[p.name()+" "+name]; !known {
					ran[p.name()+" "+name] = false
				}
			case t.action == "skip":
				found = append(found, p.name()+" "+name+" is skipped for a reason that no table gives")
			default:
				found = append(found, p.name()+" "+name+" failed")
			}
		}
		for _, name := range p.tests {
			if tests[name] == nil {
				found = append(found, p.name()+" has no "+name)
			}
		}
		if len(tests) == 0 {
			found = append(found, "no test of "+p.name()+" was run")
		}
	}
	slices.Sort(found)
	return found
}

// judge says why a run does not count, nil when it does.
func judge(reports []report, packages []suite) error {
	var errs []error
	ran := map[string]bool{}
	for _, r := range reports {
		for _, problem := range r.problems(packages, ran) {
			errs = append(errs, fmt.Errorf("%s: %s", r.kernel, problem))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(ran)) {
		if !ran[name] {
			errs = append(errs, fmt.Errorf("%s ran under none of these kernels", name))
		}
	}
	return errors.Join(errs...)
}

// print says how a run went, and of what failed all that there is.
func (r *report) print(w io.Writer, verbose bool) {
	count := map[string]int{}
	for _, folder := range slices.Sorted(maps.Keys(r.packages)) {
		tests, err := r.packages[folder].results()
		if err != nil {
			fmt.Fprintln(w, err)
		}
		for _, name := range slices.Sorted(maps.Keys(tests)) {
			t := tests[name]
			count[t.action]++
			if verbose || t.action != "pass" && t.action != "skip" {
				fmt.Fprint(w, t.said.String())
			}
		}
	}
	if verbose || r.err != nil {
		w.Write(r.console)
	}
	fmt.Fprintf(w, "kernel %s (%s): %d passed, %d failed, %d skipped, in %.0f s\n",
		r.kernel, r.version, count["pass"], count["fail"]+count[""], count["skip"], r.took.Seconds())
}
