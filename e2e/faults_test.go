//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

// fault is something planted in a lab that works, and what lab verify must say of it.
type fault struct {
	name string
	// plant breaks something and returns what mends it; nil leaves that to the agent.
	plant func(t *testing.T, f faulty) (mend func())
	// red lists patterns of checks that must not pass, by mode; "" stands for all others. A mode that is
	// not there, without "", does not know the fault.
	red map[string][]string
	// may lists those that may pass or not, as chance has it: which backend a Service gives, for one.
	may []string
}

// faulty is the lab that faults are planted in.
type faulty struct{ lab, mode, node, other string }

// testFaults plants one fault after the other. Of the whole lab verify exactly the right checks must turn
// red, and green again when the fault is mended, without a restart of anything.
func testFaults(t *testing.T, lab, mode string) {
	f := faulty{lab: lab, mode: mode, node: lab + "-worker", other: lab + "-worker2"}
	for _, each := range faults() {
		red, known := each.red[mode]
		if !known {
			red, known = each.red[""]
		}
		if known {
			t.Run(each.name, func(t *testing.T) { testFault(t, f, each, red) })
		}
	}
}

func testFault(t *testing.T, f faulty, planted fault, red []string) {
	mend := planted.plant(t, f)
	if mend == nil {
		mend = func() {}
	}
	mended := false
	t.Cleanup(func() {
		if !mended {
			mend()
		}
	})
	began := time.Now()
	statuses := verifyStatuses(t, f.lab)
	t.Logf("verified in %.1f s", time.Since(began).Seconds())
	lookAgain(t, f.lab, statuses, red)
	var failed []string
	for name, seen := range statuses {
		status := seen.Status
		mustFail, mayFail := matchesAny(red, name), matchesAny(planted.may, name)
		switch {
		case status == "pass" && mustFail:
			t.Errorf("%s passes", name)
		case status != "pass" && !mustFail && !mayFail:
			t.Errorf("%s: %s, and has nothing to do with it: %s", name, status, seen.why())
		}
		if status != "pass" {
			failed = append(failed, name)
		}
	}
	for _, pattern := range red {
		if !slices.ContainsFunc(failed, func(name string) bool { return matchesAny([]string{pattern}, name) }) {
			t.Errorf("%s: no such check is red", pattern)
		}
	}
	slices.Sort(failed)
	t.Logf("red: %s", strings.Join(failed, " "))
	mend()
	mended = true
	if len(failed) == 0 {
		return
	}
	// An agent looks once a minute after what it keeps.
	eventually(t, 100*time.Second, "all of it green again", func() string {
		var still []string
		for name, seen := range verifyStatuses(t, f.lab, "--only", strings.Join(failed, ",")) {
			if seen.Status != "pass" {
				still = append(still, name)
			}
		}
		return strings.Join(still, " ")
	})
}

// lookAgain asks once more for the checks that must fail and did not. Once a minute the agent mends what it
// finds broken, until keep breaks it again: a check that sends until something arrives may pass just then.
// The second look is over long before the agent's next.
func lookAgain(t *testing.T, lab string, statuses map[string]checked, red []string) {
	t.Helper()
	var passed []string
	for name, seen := range statuses {
		if seen.Status == "pass" && matchesAny(red, name) {
			passed = append(passed, name)
		}
	}
	if len(passed) == 0 {
		return
	}
	t.Logf("passed, though it must fail, and is looked at again: %s", strings.Join(passed, " "))
	maps.Copy(statuses, verifyStatuses(t, lab, "--only", strings.Join(passed, ",")))
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { ok, _ := path.Match(p, name); return ok })
}

// checked is a check's result.
type checked struct {
	Name, Status, Error string
	Wrong               []string
}

func (c checked) why() string { return strings.Join(append(c.Wrong, c.Error), "; ") }

// verifyStatuses runs lab verify and returns each check's result.
func verifyStatuses(t *testing.T, name string, args ...string) map[string]checked {
	t.Helper()
	o := lab(t, append([]string{"verify", name, "-o", "json"}, args...)...)
	var report struct {
		Results []checked
	}
	if err := json.Unmarshal([]byte(o.stdout), &report); err != nil || len(report.Results) == 0 {
		t.Fatalf("lab verify: exit status %d, %v: %s", o.code, err, o.stderr)
	}
	statuses := map[string]checked{}
	for _, r := range report.Results {
		statuses[r.Name] = r
	}
	return statuses
}

// keep runs a script on a node now and, as the agent mends what it finds broken, over and over until
// the returned function is called.
func keep(t *testing.T, node, script string) (stop func()) {
	t.Helper()
	onNode(t, node, "sh", "-c", script)
	const pidFile = "/run/wirelab-e2e-fault.pid"
	onNode(t, node, "rm", "-f", pidFile)
	loop := fmt.Sprintf("echo $$ >%s; while :; do %s; sleep 0.1; done >/dev/null 2>&1", pidFile, script)
	if _, err := command("docker", "exec", "-d", node, "sh", "-c", loop); err != nil {
		t.Fatal(err)
	}
	return func() {
		eventually(t, 10*time.Second, "the pid of the loop on "+node, func() string {
			if _, err := command("docker", "exec", node, "test", "-s", pidFile); err != nil {
				return err.Error()
			}
			return ""
		})
		onNode(t, node, "sh", "-c", "kill $(cat "+pidFile+"); rm "+pidFile)
	}
}
