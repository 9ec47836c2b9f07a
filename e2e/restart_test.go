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

// testAgentRestart deletes the agents of two nodes, then kills them, under traffic.
func testAgentRestart(t *testing.T, lab string) {
	underTraffic(t, lab, "two deleted and two killed agents", func(nodes []string) {
		for _, node := range nodes {
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
		killAgents(t, lab, nodes)
	})
}

// killAgents kills the agent of each node and waits until it is back.
func killAgents(t *testing.T, lab string, nodes []string) {
	t.Helper()
	for _, node := range nodes {
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
}

// underTraffic does something to the agents while requests run from a pod to one of another node, and from that one to the
// demo's Service: each on a connection of its own, and others on connections that last. Not one request may fail, and no
// connection may be lost.
func underTraffic(t *testing.T, lab, what string, do func(nodes []string)) {
	t.Helper()
	client, server := demoPair(t, lab)
	const fresh, lasting, connections = 200, 50, "20" // twice 250 a second leave two CPUs time for Kubernetes
	const seconds = 600                               // at most
	service := kubectl(t, lab, "get", "service", "demo", "-o", "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}")
	traffic := []stream{
		startRequests(t, lab, client, server.IP, fresh, seconds), startRequests(t, lab, server, service, fresh, seconds),
		startRequests(t, lab, client, server.IP, lasting, seconds, "--connections", connections),
		startRequests(t, lab, server, service, lasting, seconds, "--connections", connections),
	}

	do([]string{client.Node, server.Node})

	for _, s := range traffic {
		s.wantRunning(t)
		s.end(t)
	}
	for _, s := range traffic {
		r := s.result(t)
		if r.Sent == 0 || r.OK != r.Sent || r.Lost > 0 {
			t.Errorf("to %s: %d of %d requests failed, and %d connections were lost: %s", s.to, r.Sent-r.OK, r.Sent, r.Lost, r.Failures)
		}
		t.Logf("to %s: %d requests across %s, %d failed, %d connections lost, the slowest took %s", s.to, r.Sent, what, r.Sent-r.OK, r.Lost, r.Max)
	}
}

// demoPair are pods of the demo on two nodes.
func demoPair(t *testing.T, lab string) (client, server pod) {
	t.Helper()
	demo := podsOf(t, lab, "default", "app=demo")
	if len(demo) < 2 || demo[0].Node == demo[1].Node {
		t.Fatalf("this needs demo pods on two nodes: %v", demo)
	}
	return demo[0], demo[1]
}

type requests struct {
	Sent, OK int
	Lost     int // connections that were to last
	Failures json.RawMessage
	Max      string // how long the slowest took
}

// stream is requests under way, each on a connection of its own.
type stream struct {
	to    string
	node  string // of who sends them
	argv  []string
	ended chan error
	out   *strings.Builder // to be read when the stream has ended
}

// startRequests sends requests from client to an address, at a rate and for so long unless they are ended before, with more
// flags of nettool's.
func startRequests(t *testing.T, lab string, client pod, to string, rate, seconds int, more ...string) stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(seconds+60)*time.Second)
	t.Cleanup(cancel)
	argv := append([]string{"nettool", "probe", "http", "http://" + to + "/", "--rate", fmt.Sprint(rate), "--count", fmt.Sprint(rate * seconds)}, more...)
	s := stream{to: to, node: client.Node, argv: argv, ended: make(chan error, 1), out: new(strings.Builder)}
	args := []string{"exec", lab + "-control-plane", "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "exec", client.Name, "--"}
	cmd := exec.CommandContext(ctx, "docker", append(args, argv...)...)
	cmd.Stdout = s.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.end(t) }) // with docker's client they do not end
	go func() { s.ended <- cmd.Wait() }()
	return s
}

// wantRunning makes sure that the requests have outlasted what the caller did meanwhile.
func (s stream) wantRunning(t *testing.T) {
	t.Helper()
	select {
	case err := <-s.ended:
		t.Fatalf("the requests to %s ended before what they were to outlast did (%v): %s", s.to, err, s.out)
	default:
	}
}

// end ends the requests, if they run: those that are under way still get their answers.
func (s stream) end(t *testing.T) {
	t.Helper()
	onNode(t, s.node, "sh", "-c", `pids=$(pgrep -x -f "$0") || exit 0; kill -TERM $pids`, strings.Join(s.argv, " "))
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
