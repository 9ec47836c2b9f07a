//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// flowLine is what these tests read of a line of `lab flows -o json`.
type flowLine struct {
	Flow *struct {
		Node, Verdict, Protocol string
		Source, Destination     struct {
			Addr, Namespace, Pod string
			Identity             int
			Labels               map[string]string
		}
	}
	Lost *struct{ Count int }
}

func flowLines(t *testing.T, jsonLines string) (lines []flowLine) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(jsonLines))
	for dec.More() {
		var l flowLine
		if err := dec.Decode(&l); err != nil {
			t.Fatalf("lab flows -o json: %v in %s", err, jsonLines)
		}
		lines = append(lines, l)
	}
	return lines
}

// testFlows: what a pod sends to one on another node is told with both pods, as it was and as it comes; nothing is left of
// who followed; a filter of what there is not is refused in a sentence.
func testFlows(t *testing.T, name string) {
	peer := strings.Fields(kubectl(t, name, "get", "pods", "-l", "app=demo", "--field-selector", "spec.nodeName="+name+"-worker", "-o", "jsonpath={.items[0].metadata.name} {.items[0].status.podIP}"))
	follower, _, stderr := labCommand(t.Context(), "flows", "--name", name, "-f", "--to-pod", peer[0], "-o", "json")
	follower.Stdout = nil
	stdout, err := follower.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follower.Start(); err != nil {
		t.Fatal(err)
	}
	told := make(chan flowLine)
	go func() {
		defer close(told)
		for dec := json.NewDecoder(stdout); ; {
			var l flowLine
			if dec.Decode(&l) != nil {
				return
			}
			told <- l
		}
	}()
	asking := func() (nodes int) {
		for _, node := range []string{"-control-plane", "-worker", "-worker2"} {
			if strings.Contains(onNode(t, name+node, "ps", "axo", "args"), "wirelab-agent dial") {
				nodes++
			}
		}
		return nodes
	}
	eventually(t, 20*time.Second, "lab follows the flows", func() string {
		if n := asking(); n != 3 {
			return fmt.Sprintf("%d agents are asked", n)
		}
		return ""
	})
	mustLab(t, "shell", "--name", name, "cni", "--", "ping", "-c", "1", "-W", "5", peer[1])
	eventually(t, 20*time.Second, "the request is told", func() string {
		o := mustLab(t, "flows", "--name", name, "--pod", "cni", "--to-pod", peer[0], "--protocol", "icmp", "--last", "1", "-o", "json")
		for _, l := range flowLines(t, o.stdout) {
			if f := l.Flow; f != nil && f.Verdict == "forwarded" && f.Source.Pod == "cni" && f.Source.Identity >= 256 && f.Destination.Addr == peer[1] &&
				f.Destination.Labels["app"] == "demo" {
				return ""
			}
		}
		return "there is " + o.stdout
	})
	for late, heard := time.After(20*time.Second), false; !heard; {
		select {
		case l, ok := <-told:
			if !ok {
				t.Fatalf("lab flows -f has ended: %s", stderr)
			}
			heard = l.Flow != nil && l.Flow.Source.Pod == "cni" && l.Flow.Destination.Addr == peer[1]
		case <-late:
			t.Fatal("who follows is not told")
		}
	}
	// Killed, it can tell nobody that it goes.
	if err := follower.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for range told { // until it has ended
	}
	_ = follower.Wait()
	eventually(t, 20*time.Second, "nothing is left in the agents' pods", func() string {
		if n := asking(); n > 0 {
			return fmt.Sprintf("%d agents are still asked", n)
		}
		return ""
	})
	o := lab(t, "flows", "--name", name, "--pod", "default/nobody")
	if o.code != 1 || !strings.HasPrefix(o.stderr, "lab: no node knows of pod default/nobody: ") {
		t.Errorf("flows of a pod that there is not: exit status %d, %s", o.code, o.stderr)
	}
	mustLab(t, "flows", "--name", name, "--last", "3")
}
