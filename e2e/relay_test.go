//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// testRelay: where a lab has a relay, the field's own client, unmodified, gets the flows of all nodes from it by mutual TLS. One
// without a certificate of the relay's CA is refused in a line, the relay logs why, and another client goes on being told.
// Where it has none, nothing of it is there, and no agent listens for one.
func testRelay(t *testing.T, profile, name string) {
	kinds := map[string]int{}
	for _, o := range relayObjects(t, name) {
		kinds[strings.Split(o, "/")[0]]++
	}
	want := "map[]"
	if profile == relayOf {
		want = "map[clusterrole.rbac.authorization.k8s.io:1 clusterrolebinding.rbac.authorization.k8s.io:1 " +
			"deployment.apps:1 pod:1 secret:4 service:1 serviceaccount:1]"
	}
	if got := fmt.Sprint(kinds); got != want {
		t.Errorf("of the relay there is %s, want %s", got, want)
	}
	for _, node := range containers(t, name) {
		if got := onNode(t, node, "ss", "-Htln", "sport", "=", ":4244"); (got != "") != (profile == relayOf) {
			t.Errorf("at port 4244 of %s listens: %q", node, got)
		}
	}
	if profile != relayOf {
		return
	}

	relay, cni := podsOf(t, name, "kube-system", relayLabel), podsOf(t, name, "default", "app=cni")
	if len(relay) != 1 || len(cni) != 1 {
		t.Fatalf("pods of the relay and to look around from: %v, %v", relay, cni)
	}
	demo := podsOf(t, name, "default", "app=demo")
	far := slices.IndexFunc(demo, func(p pod) bool { return p.Node != cni[0].Node })
	if far < 0 {
		t.Fatalf("no pod of the demo is on another node than %v: %v", cni[0], demo)
	}
	peer := demo[far].IP
	own, other := secretFiles(t, name, "wirelab-relay-client"), secretFiles(t, name, "wirelab-relay")
	trusted := []string{"--tls-server-name", "wirelab-relay", "--tls-ca-cert-files", filepath.Join(own, "ca.crt")}
	s := flowServer{t: t, at: relay[0].IP + ":4245", via: inNetworkOf(t, relay[0].Node), with: append(shown(own), trusted...)}

	s.wantNodes(name)
	wantNext := s.followed(name, peer)
	began := time.Now().UTC().Format(time.RFC3339Nano) // nodes and tests have the same clock
	wantNext()
	var nodes []string
	eventually(t, 20*time.Second, "flows of the pod from both of the ping's nodes", func() string {
		nodes = nil
		for _, f := range s.wantFlows(began, "--pod default/cni", func(f told) bool { return f.of("cni") }) {
			nodes = append(nodes, f.Flow.NodeName)
		}
		slices.Sort(nodes)
		if nodes = slices.Compact(nodes); len(nodes) != 2 {
			return fmt.Sprint("they are from ", nodes)
		}
		return ""
	})
	if all := s.observe("--last", "200"); !slices.ContainsFunc(all, func(f told) bool { return !f.of("cni") }) {
		t.Errorf("without a filter all of %d flows are of the pod: the filter has had nothing to leave out", len(all))
	}

	for _, c := range []struct {
		who        string
		with       []string
		told, logs string
	}{
		{"who has no certificate", append([]string{"--tls"}, trusted...), "certificate required", "client didn't provide a certificate"},
		{"who has one of another CA", append(shown(other), trusted...), "unknown certificate authority", "certificate signed by unknown authority"},
		{"who takes certificates of another CA", append(shown(own), "--tls-server-name", "wirelab-relay", "--tls-ca-cert-files", filepath.Join(other, "ca.crt")),
			"certificate signed by unknown authority", "remote error: tls: bad certificate"},
	} {
		refused := s
		refused.with = c.with
		run := refused.client("status")
		out, err := command(run[0], run[1:]...)
		if err == nil || !strings.Contains(err.Error(), c.told) || strings.Count(strings.TrimSpace(err.Error()), "\n") > 0 || out != "" {
			t.Errorf("%s is told %v, %s", c.who, err, out)
		}
		eventually(t, 5*time.Second, "the log says why "+c.who+" is refused", func() string {
			log := mustLab(t, "logs", "relay", "--name", name).stdout
			if !slices.ContainsFunc(lines(log), func(line string) bool {
				return strings.Contains(line, c.logs) && strings.Contains(line, "ask with what the Secret wirelab-relay-client has now")
			}) {
				return log
			}
			return ""
		})
	}
	wantNext()
	s.wantNodes(name)
}

const relayLabel = "app.kubernetes.io/name=wirelab-relay"

// relayObjects are those of the relay, as kind/name.
func relayObjects(t *testing.T, name string) []string {
	t.Helper()
	return strings.Fields(kubectl(t, name, "-n", "kube-system", "get", "deployment,pod,service,serviceaccount,secret,clusterrole,clusterrolebinding",
		"-l", relayLabel, "-o", "name"))
}

// secretFiles writes a Secret with a certificate to files, and returns their directory.
func secretFiles(t *testing.T, name, secret string) string {
	t.Helper()
	var found struct{ Data map[string][]byte }
	if err := json.Unmarshal([]byte(kubectl(t, name, "-n", "kube-system", "get", "secret", secret, "-o", "json")), &found); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for file, data := range found.Data {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// shown are the client's flags for the certificate of a directory.
func shown(dir string) []string {
	return []string{"--tls", "--tls-client-cert-file", filepath.Join(dir, "tls.crt"), "--tls-client-key-file", filepath.Join(dir, "tls.key")}
}

// inNetworkOf is what a program of this machine is run by to have the network of a node. A port that kubectl forwards would not
// do: the forwarding ends with the first connection that the other side refuses.
func inNetworkOf(t *testing.T, node string) []string {
	t.Helper()
	pid, err := command("docker", "inspect", "-f", "{{.State.Pid}}", node)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"nsenter", "-n", "-t", pid}
}
