//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

type pod struct{ Name, UID, Node, IP string }

// podsOf lists the running pods with a label, sorted by name.
func podsOf(t *testing.T, lab, namespace, label string) []pod {
	t.Helper()
	out := kubectl(t, lab, "-n", namespace, "get", "pods", "-l", label, "--field-selector", "status.phase=Running", "-o",
		`jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.spec.nodeName} {.status.podIP}{"\n"}{end}`)
	var pods []pod
	for _, line := range strings.Split(out, "\n") {
		if f := strings.Fields(line); len(f) == 4 {
			pods = append(pods, pod{f[0], f[1], f[2], f[3]})
		}
	}
	return pods
}

// testAgentRestart deletes the agents of two nodes, then kills them, while requests run from a pod of
// the one to a pod of the other, and from the other to the demo's Service. Not one request may fail.
func testAgentRestart(t *testing.T, lab string) {
	demo := podsOf(t, lab, "default", "app=demo")
	if len(demo) < 2 || demo[0].Node == demo[1].Node {
		t.Fatalf("this needs demo pods on two nodes: %v", demo)
	}
	client, server := demo[0], demo[1]
	const rate, seconds = 250, 40 // twice 250 a second leave two CPUs time for Kubernetes
	service := kubectl(t, lab, "get", "service", "demo", "-o", "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}")
	traffic := []stream{startRequests(t, lab, client, server.IP, rate, seconds), startRequests(t, lab, server, service, rate, seconds)}

	for _, node := range []string{client.Node, server.Node} {
		old := agentOn(t, lab, node)
		kubectl(t, lab, "-n", "kube-system", "delete", "pod", old.Name, "--wait=false")
		eventually(t, time.Minute, "a new agent on "+node, func() string {
			for _, p := range podsOf(t, lab, "kube-system", "app.kubernetes.io/name=wirelab-agent") {
				if p.Node == node && p.UID != old.UID && agentReady(t, lab, p) {
					return ""
				}
			}
			return "none is ready"
		})
	}
	for _, node := range []string{client.Node, server.Node} {
		agent := agentOn(t, lab, node)
		restarts := restartsOf(t, lab, agent)
		pid := onNode(t, node, "pgrep", "-o", "-x", "wirelab-agent")
		onNode(t, node, "kill", "-KILL", pid)
		eventually(t, time.Minute, "the killed agent on "+node+" to come back", func() string {
			if restartsOf(t, lab, agent) == restarts {
				return "it has not been restarted"
			}
			if !agentReady(t, lab, agent) {
				return "it is not ready"
			}
			return ""
		})
	}

	for _, s := range traffic {
		s.wantRunning(t)
	}
	for _, s := range traffic {
		r := s.result(t)
		if r.Sent != rate*seconds || r.OK != r.Sent {
			t.Errorf("to %s: %d of %d requests failed: %s", s.to, r.Sent-r.OK, r.Sent, r.Failures)
		}
		t.Logf("to %s: %d requests at %d/s at most across two deleted and two killed agents, %d failed, the slowest took %s", s.to, r.Sent, rate, r.Sent-r.OK, r.Max)
	}
}

type requests struct {
	Sent, OK int
	Failures json.RawMessage
	Max      string // how long the slowest took
}

// stream is requests under way, each on a connection of its own.
type stream struct {
	to    string
	ended chan error
	out   *strings.Builder // to be read when the stream has ended
}

// startRequests sends requests from client to an address, at a rate and for so long.
func startRequests(t *testing.T, lab string, client pod, to string, rate, seconds int) stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(seconds+60)*time.Second)
	t.Cleanup(cancel)
	s := stream{to: to, ended: make(chan error, 1), out: new(strings.Builder)}
	cmd := exec.CommandContext(ctx, "docker", "exec", lab+"-control-plane", "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf",
		"exec", client.Name, "--", "nettool", "probe", "http", "http://"+to+"/", "--rate", fmt.Sprint(rate), "--count", fmt.Sprint(rate*seconds))
	cmd.Stdout = s.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.ended <- cmd.Wait() }()
	return s
}

// wantRunning makes sure that the requests have outlasted what the caller did meanwhile.
func (s stream) wantRunning(t *testing.T) {
	t.Helper()
	select {
	case err := <-s.ended:
		t.Fatalf("the requests to %s ended before the restarts did (%v): %s", s.to, err, s.out)
	default:
	}
}

// result waits for the last request.
func (s stream) result(t *testing.T) requests {
	t.Helper()
	err := <-s.ended
	r, readErr := requestsIn(s.out.String())
	if readErr != nil {
		t.Fatalf("to %s: %v (%v)", s.to, readErr, err)
	}
	return r
}

// requestsIn reads what nettool prints when it is done.
func requestsIn(out string) (requests, error) {
	var line struct{ HTTP *requests }
	if err := json.Unmarshal([]byte(out), &line); err != nil || line.HTTP == nil {
		return requests{}, fmt.Errorf("read what came of the requests, %q: %v", out, err)
	}
	return *line.HTTP, nil
}

func agentOn(t *testing.T, lab, node string) pod {
	t.Helper()
	for _, p := range podsOf(t, lab, "kube-system", "app.kubernetes.io/name=wirelab-agent") {
		if p.Node == node {
			return p
		}
	}
	t.Fatalf("no agent runs on %s", node)
	return pod{}
}

func agentReady(t *testing.T, lab string, p pod) bool {
	t.Helper()
	return kubectl(t, lab, "-n", "kube-system", "get", "pod", p.Name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`) == "True"
}

func restartsOf(t *testing.T, lab string, p pod) string {
	t.Helper()
	return kubectl(t, lab, "-n", "kube-system", "get", "pod", p.Name, "-o", "jsonpath={.status.containerStatuses[0].restartCount}")
}
