//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/logtest"
)

// flowClient is the field's own client of the flow API, as e2e/flowclient makes it.
const flowClient = "../bin/flow-client"

// told is what that client tells of a flow.
type told struct {
	Flow struct {
		Verdict             string
		IP                  struct{ Source, Destination string }
		L4                  map[string]json.RawMessage
		Source, Destination struct {
			Namespace string
			PodName   string `json:"pod_name"`
			Labels    []string
			Identity  int
		}
		NodeName string `json:"node_name"`
		Time     time.Time
	}
}

// of says whether an end of the flow is that pod of the namespace default.
func (f told) of(pod string) bool {
	return f.Flow.Source.PodName == pod || f.Flow.Destination.PodName == pod
}

// flowServer is what the client asks: lab flows --serve, or the relay of a lab.
type flowServer struct {
	t    *testing.T
	at   string
	via  []string        // what the client is run by; may be nil
	with []string        // its flags
	said *logtest.Buffer // what the server has said; may be nil
}

// serveFlows serves until the test is over. The server tells what becomes of its connections, for the case that a client fails.
func serveFlows(t *testing.T, name string) flowServer {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	server, _, _ := labCommand(ctx, "flows", "--name", name, "--serve", "--listen", "127.0.0.1:0")
	server.Env = append(os.Environ(), "GRPC_GO_LOG_SEVERITY_LEVEL=info", "GRPC_GO_LOG_VERBOSITY_LEVEL=2")
	said := &logtest.Buffer{}
	server.Stderr = said
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := server.Wait()
		fmt.Fprintf(said, "lab flows --serve has ended: %v\n", err)
	}()
	t.Cleanup(func() {
		cancel() // kills it
		<-ended
	})
	var at []string
	eventually(t, time.Minute, "lab flows --serve says where", func() string {
		at = servedAt.FindStringSubmatch(said.String())
		if at == nil {
			return "it says " + said.String()
		}
		return ""
	})
	return flowServer{t: t, at: at[1], said: said}
}

var servedAt = regexp.MustCompile(`(?m)^serving the flows of lab .* at (127\.0\.0\.1:\d+), without TLS$`)

// client is the command line of the client.
func (s flowServer) client(args ...string) []string {
	return slices.Concat(s.via, []string{flowClient}, args, []string{"--server", s.at}, s.with)
}

// ask runs the client.
func (s flowServer) ask(args ...string) string {
	s.t.Helper()
	run := s.client(args...)
	out, err := command(run[0], run[1:]...)
	if err != nil {
		if s.said != nil {
			s.t.Log(s.said)
		}
		s.t.Fatal(err)
	}
	return out
}

func (s flowServer) observe(args ...string) []told {
	s.t.Helper()
	return parse(s.t, s.ask(append([]string{"observe", "-o", "jsonpb"}, args...)...))
}

func parse(t *testing.T, out string) (all []told) {
	t.Helper()
	for _, line := range lines(out) {
		if line == "" {
			continue
		}
		var f told
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if f.Flow.Verdict != "" { // a line may also tell of events that were lost
			all = append(all, f)
		}
	}
	return all
}

// testFlowsServed has the field's own client, unmodified, ask lab flows --serve: how it is, which nodes there are, and with its
// filters, also while flows come, who has talked with whom.
func testFlowsServed(t *testing.T, name string) {
	s := serveFlows(t, name)
	s.wantNodes(name)
	peer := kubectl(t, name, "get", "pods", "-l", "app=demo", "--field-selector", "spec.nodeName="+name+"-worker", "-o", "jsonpath={.items[0].status.podIP}")
	const forged = "10.9.9.9"
	began := time.Now().UTC().Format(time.RFC3339Nano) // nodes and tests have the same clock
	// A pod that pings, and one packet with an address that is not its own. Flows from before are not asked for: those of a
	// lab's first seconds may lack what their node did not know yet.
	mustLab(t, "shell", "--name", name, "cni", "--", "sh", "-c", "ping -c 1 -W 5 "+peer+
		"; ip addr add "+forged+"/32 dev eth0; ping -c 1 -W 1 -I "+forged+" "+peer+"; ip addr del "+forged+"/32 dev eth0")
	demo := func(labels []string) bool { return slices.Contains(labels, "k8s:app=demo") }
	for filter, fits := range map[string]func(told) bool{
		"--pod default/cni":     func(f told) bool { return f.of("cni") },
		"--verdict DROPPED":     func(f told) bool { return f.Flow.Verdict == "DROPPED" },
		"--protocol icmp":       func(f told) bool { return f.Flow.L4["ICMPv4"] != nil },
		"--ip " + peer:          func(f told) bool { return f.Flow.IP.Source == peer || f.Flow.IP.Destination == peer },
		"--label app=demo":      func(f told) bool { return demo(f.Flow.Source.Labels) || demo(f.Flow.Destination.Labels) },
		"--from-ip " + forged:   func(f told) bool { return f.Flow.IP.Source == forged && f.Flow.Verdict == "DROPPED" },
		"--not --pod default/a": func(told) bool { return true },
		"--from-pod default/cni --to-ip " + peer + " --protocol icmp --verdict FORWARDED": func(f told) bool {
			return f.Flow.Source.PodName == "cni" && f.Flow.Source.Namespace == "default" && f.Flow.Source.Identity >= 256 && demo(f.Flow.Destination.Labels)
		},
	} {
		s.wantFlows(began, filter, fits)
	}
	if all := s.observe("--pod", "default/nobody-has-this-name"); len(all) != 0 {
		t.Errorf("a pod that is not there has talked: %+v", all)
	}
	s.followed(name, peer)()
	s.reread()
}

// wantNodes holds that the client is told of three nodes, all connected and of the lab.
func (s flowServer) wantNodes(name string) {
	t := s.t
	t.Helper()
	var status struct {
		Flows string `json:"num_flows"`
		Nodes int    `json:"num_connected_nodes"`
	}
	if err := json.Unmarshal([]byte(s.ask("status", "-o", "json")), &status); err != nil || status.Nodes != 3 || status.Flows == "" || status.Flows == "0" {
		t.Errorf("the status is %+v, %v", status, err)
	}
	var nodes []struct{ Name, State string }
	if err := json.Unmarshal([]byte(s.ask("list", "nodes", "-o", "json")), &nodes); err != nil || len(nodes) != 3 {
		t.Errorf("nodes are %+v, %v", nodes, err)
	}
	for _, n := range nodes {
		if n.State != "NODE_CONNECTED" || !strings.HasPrefix(n.Name, name+"-") {
			t.Errorf("a node is %+v", n)
		}
	}
}

// wantFlows waits until there are flows by a filter since a time, all of which fit it, and returns them.
func (s flowServer) wantFlows(since, filter string, fits func(told) bool) (all []told) {
	t := s.t
	t.Helper()
	eventually(t, 20*time.Second, "flows by "+filter, func() string { // agents read events some times a second
		all = s.observe(append(strings.Fields(filter), "--since", since, "--last", "200")...)
		for _, f := range all {
			if !fits(f) {
				t.Fatalf("%s: there is %+v", filter, f.Flow)
			}
		}
		if len(all) == 0 {
			return "there are none"
		}
		return ""
	})
	return all
}

// followed starts a client that waits for the flows of the pod cni. What it returns has the pod ping until the client tells of a
// flow that is newer.
func (s flowServer) followed(name, peer string) (wantNext func()) {
	t := s.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	run := s.client("observe", "-f", "--last", "0", "-o", "jsonpb", "--pod", "default/cni", "--protocol", "icmp")
	client := exec.CommandContext(ctx, run[0], run[1:]...)
	out, err := client.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	heard := make(chan string)
	go func() {
		defer close(heard)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			heard <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		cancel()
		for range heard { //nolint:revive // until the client has ended
		}
		_ = client.Wait() // killed
	})
	return func() {
		t.Helper()
		began := time.Now()
		for {
			mustLab(t, "shell", "--name", name, "cni", "--", "ping", "-c", "1", "-W", "5", peer)
			for wait := time.After(200 * time.Millisecond); wait != nil; {
				select {
				case line, ok := <-heard:
					if !ok {
						t.Fatal("a client that follows has ended")
					}
					all := parse(t, line)
					if len(all) != 1 || !all[0].of("cni") {
						t.Errorf("a client that follows tells %q", line)
					}
					if len(all) == 1 && all[0].Flow.Time.After(began) { // nodes and tests have the same clock
						return
					}
				case <-wait:
					wait = nil
				}
			}
		}
	}
}

// reread gives the client what it has told itself.
func (s flowServer) reread() {
	t := s.t
	t.Helper()
	out := s.ask("observe", "-o", "jsonpb", "--last", "50")
	file := filepath.Join(t.TempDir(), "flows.json")
	if err := os.WriteFile(file, []byte(out+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := command(flowClient, "observe", "-o", "jsonpb", "--input-file", file)
	if err != nil {
		t.Fatal(err)
	}
	if before, after := len(parse(t, out)), len(parse(t, again)); before != after || before < 50 {
		t.Errorf("%d flows are written, and %d read", before, after)
	}
}
