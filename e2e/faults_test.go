//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

// fault is something planted in a lab that works, and what lab verify must say of it.
type fault struct {
	name  string
	plant func(t *testing.T, f faulty) planted
	// red lists patterns of checks that must not pass, by profile; "" stands for all others. A profile that is
	// not there, without "", does not know the fault.
	red map[string][]string
	// may lists those that may pass or not, as chance has it: which backend a Service gives, for one.
	may []string
	// passport is a packet that it concerns, by the profile of the lab that it is explained in: one of each kind will do, as
	// each takes seconds. There is none where the fault is to have no effect.
	passport map[string]concerned
}

// planted is a fault that is there until mend is called.
type planted struct {
	mend func()
	// again counts how often it had to be planted anew; nil if only mend undoes it.
	again func() int
}

// faulty is the lab that faults are planted in.
type faulty struct{ lab, node, other string }

// testFaults plants one fault after the other. Of the whole lab verify exactly the right checks must turn
// red, and green again when the fault is mended, without a restart of anything: all others are held to it
// while the next fault is there, and all of them after the last.
func testFaults(t *testing.T, lab, profile string) {
	f := faulty{lab: lab, node: lab + "-worker", other: lab + "-worker2"}
	for _, each := range faults() {
		red, known := each.red[profile]
		if !known {
			red, known = each.red[""]
		}
		if known {
			t.Run(each.name, func(t *testing.T) { testFault(t, f, each, profile, red) })
		}
	}
	eventually(t, time.Minute, "all of it green again", func() string {
		var still []string
		for name, seen := range verifyStatuses(t, lab) {
			if seen.Status != "pass" {
				still = append(still, name+": "+seen.why())
			}
		}
		return strings.Join(still, "\n")
	})
}

func testFault(t *testing.T, f faulty, each fault, profile string, red []string) {
	p := each.plant(t, f)
	mended := false
	t.Cleanup(func() {
		if !mended {
			p.mend()
		}
	})
	p.explain(t, f, each, profile)
	statuses := p.verify(t, f.lab)
	var failed []string
	for name, seen := range statuses {
		status := seen.Status
		mustFail, mayFail := matchesAny(red, name), matchesAny(each.may, name)
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
	p.mend()
	mended = true
}

// verify runs lab verify while the fault is there. Should the agent mend it meanwhile, what was looked at just then
// may have passed: such a run says nothing.
func (p planted) verify(t *testing.T, lab string) map[string]checked {
	t.Helper()
	for range 3 {
		before := p.count()
		began := time.Now()
		statuses := verifyStatuses(t, lab)
		t.Logf("verified in %.1f s", time.Since(began).Seconds())
		if p.count() == before {
			return statuses
		}
		t.Log("the agent has mended it meanwhile")
	}
	t.Fatal("the agent mends it each time before it is verified")
	return nil
}

func (p planted) count() int {
	if p.again == nil {
		return 0
	}
	return p.again()
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { ok, _ := path.Match(p, name); return ok })
}

// checked is a check's result.
type checked struct {
	Name, Status, Error string
	Wrong               []struct{ About, Want, Seen string }
}

func (c checked) why() string {
	var all []string
	for _, w := range c.Wrong {
		all = append(all, w.About+": want "+w.Want+", seen: "+w.Seen)
	}
	return strings.Join(append(all, c.Error), "; ")
}

// verifyStatuses runs lab verify and returns each check's result.
func verifyStatuses(t *testing.T, name string) map[string]checked {
	t.Helper()
	o := lab(t, "verify", name, "-o", "json")
	var report struct {
		Results []checked
	}
	if err := json.Unmarshal([]byte(o.stdout), &report); err != nil || len(report.Results) == 0 {
		t.Fatalf("lab verify: exit status %d, %v: %s", o.code, err, o.stderr)
	}
	statuses := map[string]checked{}
	code := 0
	for _, r := range report.Results {
		statuses[r.Name] = r
		switch {
		case r.Status == "fail":
			code = 3
		case r.Status != "pass":
			code = max(code, 1)
		}
	}
	if o.code != code && !(code == 0 && o.code == 1) { // of which all passed and something could not be removed
		t.Errorf("lab verify: exit status %d, want %d: %s", o.code, code, o.stderr)
	}
	return statuses
}

// keep runs a script on the fault's node that breaks something, and fails when that is broken already. The agent
// would mend it within a second: its reconcilers that do are paused meanwhile. The script runs over and over all the
// same, and counts when it had to break things anew, so that a pause that is none is seen.
func keep(t *testing.T, f faulty, reconcilers, script string) planted {
	t.Helper()
	const pidFile, countFile = "/run/wirelab-e2e-fault.pid", "/run/wirelab-e2e-fault.count"
	node := f.node
	onNode(t, node, "rm", "-f", pidFile, countFile)
	resume := pause(t, f, strings.Fields(reconcilers)...)
	onNode(t, node, "sh", "-c", script)
	once := fmt.Sprintf("if %s; then echo again >>%s; fi >/dev/null 2>&1", script, countFile)
	if _, err := command("docker", "exec", "-d", node, "sh", "-c", fmt.Sprintf("echo $$ >%s; while :; do %s; sleep 0.1; done", pidFile, once)); err != nil {
		t.Fatal(err)
	}
	return planted{
		mend: func() {
			eventually(t, 10*time.Second, "the pid of the loop on "+node, func() string {
				if _, err := command("docker", "exec", node, "test", "-s", pidFile); err != nil {
					return err.Error()
				}
				return ""
			})
			onNode(t, node, "sh", "-c", "kill $(cat "+pidFile+"); rm -f "+pidFile+" "+countFile)
			resume()
		},
		again: func() int {
			return strings.Count(onNode(t, node, "sh", "-c", once+"; touch "+countFile+"; cat "+countFile), "again")
		},
	}
}

// pause keeps reconcilers of the agent on the fault's node from mending until the returned function is called.
func pause(t *testing.T, f faulty, reconcilers ...string) (resume func()) {
	t.Helper()
	tell := func(args ...string) {
		agent := agentOn(t, f.lab, f.node)
		kubectl(t, f.lab, append([]string{"-n", "kube-system", "exec", agent.Name, "-c", "agent", "--", "wirelab-agent"}, args...)...)
	}
	tell(append([]string{"pause", "--for", "30m"}, reconcilers...)...)
	return func() { tell("resume") }
}
