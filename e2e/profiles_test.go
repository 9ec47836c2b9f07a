//go:build e2e

package e2e

import (
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// upResult is what these tests read of `lab up -o json`.
type upResult struct {
	Lab     string
	Context string
	Created bool
	Steps   []struct {
		Name       string
		State      string
		DurationNs time.Duration
	}
	Report *struct {
		Results []struct{ Name, Status string }
	}
}

// TestProfiles takes every shipped profile through a lab's whole life.
func TestProfiles(t *testing.T) {
	var shipped []struct{ Name string }
	labJSON(t, &shipped, "profile", "list")
	if len(shipped) == 0 {
		t.Fatal("no profile is shipped")
	}
	for _, p := range shipped {
		t.Run(p.Name, func(t *testing.T) {
			if p.Name == "geneve" && !kernelHas(t, "geneve") {
				testRefused(t, p.Name)
				return
			}
			testLife(t, p.Name, "e2e-"+p.Name)
		})
	}
}

// kernelHas tries whether a device of that kind can be made.
func kernelHas(t *testing.T, kind string) bool {
	t.Helper()
	out, err := exec.Command("unshare", "-n", "ip", "link", "add", "probe", "type", kind, "external").CombinedOutput()
	if err != nil && !strings.Contains(string(out), "Unknown device type") && !strings.Contains(string(out), "not supported") {
		t.Fatalf("try for a %s device: %v: %s", kind, err, out)
	}
	return err == nil
}

// testRefused: what this kernel has not got is said by its name, before anything is made.
func testRefused(t *testing.T, profile string) {
	o := lab(t, "up", profile, "--name", "e2e-"+profile)
	if o.code == 0 || !strings.Contains(o.stderr, "this kernel has no "+profile+" devices") {
		t.Errorf("exit %d: %s", o.code, o.stderr)
	}
}

// relayOf is the profile whose lab is made with a relay, which answers clients that have a certificate only.
const relayOf = "ebpf"

// otherKubernetesOf is the profile whose lab has a Kubernetes that is not the default. Its kube-proxy, too, is of that version.
const otherKubernetesOf = "kubeproxy"

// up is how a lab of a profile is made, and found again as it is to be.
func up(profile, name string) []string {
	args := []string{"up", profile, "--name", name}
	switch profile {
	case relayOf:
		args = append(args, "--set", "network.flows.relay.enabled=true", "--set", "network.flows.relay.tls=true")
	case otherKubernetesOf:
		args = append(args, "--set", "cluster.image=wirelab/node:"+otherKubernetes())
	}
	return args
}

// otherKubernetes is a version of Kubernetes that is not the default, and that a node image has been built with.
func otherKubernetes() string { return os.Getenv("WIRELAB_TEST_OTHER_KUBERNETES") }

func testLife(t *testing.T, profile, name string) {
	if profile == otherKubernetesOf && otherKubernetes() == "" {
		t.Fatal("WIRELAB_TEST_OTHER_KUBERNETES is to name a version that make node-image KUBERNETES=… has built, as make test-e2e does")
	}
	t.Cleanup(func() { mustLab(t, "down", name) })
	var made upResult
	o := labJSON(t, &made, up(profile, name)...)
	wantVerified(t, made)
	if !made.Created {
		t.Error("lab up says that it found the lab; there was none")
	}
	if profile == otherKubernetesOf {
		wantKubernetes(t, name, otherKubernetes())
	}
	for _, s := range made.Steps {
		t.Logf("%-14s %6.1f s", s.Name, s.DurationNs.Seconds())
	}
	t.Logf("%-14s %6.1f s", "in all", o.took.Seconds())

	t.Run("again", func(t *testing.T) { testConverges(t, profile, name) })
	t.Run("look", func(t *testing.T) { testLook(t, profile, name) })
	t.Run("shell", func(t *testing.T) { testShell(t, name) })
	t.Run("flows", func(t *testing.T) { testFlows(t, name) })
	if profile == "kubeproxy-replacement" { // clients are told the same in all
		t.Run("flows-served", func(t *testing.T) { testFlowsServed(t, name) })
	}
	if profile == "ebpf" { // what it shows are flows, which are tried in each
		t.Run("ui", func(t *testing.T) { testUI(t, name) })
	}
	t.Run("relay", func(t *testing.T) { testRelay(t, profile, name) })
	if profile == "vxlan" { // a report has the same formats in all
		t.Run("verify", func(t *testing.T) { testVerify(t, name) })
	}
	if profile != "geneve" { // which has no page of its own
		t.Run("walkthrough", func(t *testing.T) { typePage(t, name, profile, walkthrough(profile)) })
	}
	if profile == "kubeproxy-replacement" {
		t.Run("switch", func(t *testing.T) { typePage(t, name, profile, walkthrough("switch")) })
	}
	if profile != "geneve" { // which differs from vxlan by the name of its tunnel
		t.Run("packets", func(t *testing.T) { // at once: passports are about their own probes alone
			t.Run("explain", func(t *testing.T) { t.Parallel(); testExplain(t, name) })
			t.Run("passports", func(t *testing.T) { t.Parallel(); typePage(t, name, profile, passports) })
		})
	}
	t.Run("rights", func(t *testing.T) { testRights(t, name) })
	t.Run("policies", func(t *testing.T) { testPolicies(t, name) })
	if profile == exercisesOf {
		t.Run("exercises", func(t *testing.T) { typePage(t, name, profile, exercises) })
	}
	if profile == "ebpf" { // pools, what captures are made with, and where secrets are, are the same in all
		t.Run("operator", func(t *testing.T) { testOperator(t, name) })
		t.Run("capture", func(t *testing.T) { testCapture(t, name) })
		t.Run("load", func(t *testing.T) { testLoad(t, name) })
		t.Run("report", func(t *testing.T) { testReport(t, name) })
	}
	if profile == "vxlan" { // of the commands nothing depends on the mode; known flows do without an API server alike
		t.Run("monitor", func(t *testing.T) { testMonitor(t, name) })
		t.Run("features", func(t *testing.T) { testFeatures(t, name) })
		t.Run("server away", func(t *testing.T) { testServerAway(t, name) })
	}
	if profile == "ebpf" { // an upgrade makes every agent anew
		t.Run("upgrade", func(t *testing.T) { testUpgrade(t, name) })
	} else {
		t.Run("restart", func(t *testing.T) { testAgentRestart(t, name) })
	}
	t.Run("faults", func(t *testing.T) { testFaults(t, name, profile) })
	t.Run("churn", func(t *testing.T) { testChurn(t, name) })
	if profile == "ebpf" { // its page uses most of what there is to look with
		t.Run("bad day", func(t *testing.T) { testPageOnBadDay(t, name, profile) })
	}
	t.Run("uninstall", func(t *testing.T) { testUninstall(t, profile, name) })
	if profile == "vxlan" { // what it does to a cluster is what lab up does
		t.Run("install", func(t *testing.T) { testInstall(t, profile, name) })
	}
	t.Run("down", func(t *testing.T) { testDown(t, name, made.Context) })
}

func wantVerified(t *testing.T, r upResult) {
	t.Helper()
	if r.Report == nil || len(r.Report.Results) == 0 {
		t.Fatal("no check was run")
	}
	for _, c := range r.Report.Results {
		if c.Status != "pass" {
			t.Errorf("check %s: %s", c.Name, c.Status)
		}
	}
}

// testConverges brings the lab up again: the same nodes, the same agents, verified.
func testConverges(t *testing.T, profile, name string) {
	before := kubectl(t, name, "-n", "kube-system", "get", "pods", "-o", "jsonpath={.items[*].metadata.uid}")
	ids := containerIDs(t, name)
	var again upResult
	labJSON(t, &again, up(profile, name)...)
	wantVerified(t, again)
	if again.Created {
		t.Error("the second lab up made the cluster anew")
	}
	if now := containerIDs(t, name); now != ids {
		t.Errorf("containers were %s and are %s", ids, now)
	}
	if now := kubectl(t, name, "-n", "kube-system", "get", "pods", "-o", "jsonpath={.items[*].metadata.uid}"); now != before {
		t.Errorf("system pods were %s and are %s: nothing had changed", before, now)
	}
}

// wantKubernetes holds every node's kubelet to a version.
func wantKubernetes(t *testing.T, name, version string) {
	t.Helper()
	for _, kubelet := range strings.Fields(kubectl(t, name, "get", "nodes", "-o", "jsonpath={.items[*].status.nodeInfo.kubeletVersion}")) {
		if kubelet != version {
			t.Errorf("a kubelet is %s, want %s", kubelet, version)
		}
	}
}

func containerIDs(t *testing.T, name string) string {
	t.Helper()
	ids, err := command("docker", "ps", "-q", "--no-trunc", "--filter", "label=io.x-k8s.kind.cluster="+name)
	if err != nil || ids == "" {
		t.Fatalf("containers of %s: %q, %v", name, ids, err)
	}
	return ids
}

// testLook asks list, status, logs and shell.
func testLook(t *testing.T, profile, name string) {
	var labs []struct{ Name, Profile, State string }
	labJSON(t, &labs, "list")
	if !slices.ContainsFunc(labs, func(l struct{ Name, Profile, State string }) bool { return l.Name == name && l.Profile == profile }) {
		t.Errorf("lab list has no %s: %v", name, labs)
	}
	var status struct {
		Mode  string
		Ready bool
		Sum   struct{ Nodes, NodesReady, AgentsReady, Reconcilers, ReconcilersHealthy int }
	}
	labJSON(t, &status, "status", name)
	if s := status.Sum; !status.Ready || s.Nodes == 0 || s.NodesReady != s.Nodes || s.AgentsReady != s.Nodes || s.ReconcilersHealthy != s.Reconcilers || s.Reconcilers == 0 {
		t.Errorf("lab status of a verified lab: %+v", status)
	}
	if text := mustLab(t, "status", name).stdout; !strings.Contains(text, profile) {
		t.Errorf("lab status as text does not name the profile:\n%s", text)
	}
	logs := mustLab(t, "logs", "agent", "--name", name, "--tail", "-1").stdout
	if logs == "" {
		t.Error("lab logs agent prints nothing")
	}
	want := 0
	if profile == "kubeproxy" { // where pods wait for it on every node
		want = status.Sum.Nodes
	}
	if n := strings.Count(logs, "kube-proxy translates Services"); n != want {
		t.Errorf("%d agents have seen kube-proxy at work, want %d:\n%s", n, want, logs)
	}
}

// testVerify asks for each format of the report.
func testVerify(t *testing.T, name string) {
	var report struct {
		Passed  bool
		Results []struct{ Name string }
	}
	labJSON(t, &report, "verify", name, "--only", "dns")
	if !report.Passed || len(report.Results) == 0 {
		t.Errorf("lab verify --only dns: %+v", report)
	}
	var suite struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Skipped  int `xml:"skipped,attr"`
	}
	o := mustLab(t, "verify", name, "--only", "dns", "-o", "junit")
	if err := xml.Unmarshal([]byte(o.stdout), &suite); err != nil || suite.Tests <= suite.Skipped || suite.Skipped == 0 || suite.Failures != 0 {
		t.Errorf("lab verify -o junit: %+v, %v", suite, err)
	}
	dir := t.TempDir()
	summary, timings := filepath.Join(dir, "summary.md"), filepath.Join(dir, "timings.json")
	o = lab(t, "verify", name, "--only", "dns", "--output-file", summary, "--timings", timings, "--budget", "verify=1ms", "--budget", "checks=10m")
	if o.code != 3 || !strings.Contains(o.stderr, "verify took ") || strings.Contains(o.stderr, "checks took ") {
		t.Errorf("over its budget: exit status %d: %s", o.code, o.stderr)
	}
	for file, want := range map[string]string{summary: " checks passed\n", timings: `"name": "dns/`} {
		if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s has no %q: %v\n%s", file, want, err, text)
		}
	}
}

// testDown removes the lab: containers, kubeconfig context, and no trace of the name is left.
func testDown(t *testing.T, name, context string) {
	if contexts := kubeconfigContexts(t); !strings.Contains(contexts, context) {
		t.Errorf("while the lab is up its context %s is not in the kubeconfig: %s", context, contexts)
	}
	mustLab(t, "down", name)
	if left := containers(t, name); len(left) > 0 {
		t.Errorf("lab down left containers %v", left)
	}
	if contexts := kubeconfigContexts(t); strings.Contains(contexts, context) {
		t.Errorf("lab down left context %s in the kubeconfig", context)
	}
	for _, kind := range []string{"volume", "image"} {
		out, err := command("docker", kind, "ls", "--format", "{{json .}}")
		if err != nil || strings.Contains(out, name) {
			t.Errorf("lab down left a Docker %s of %s (or cannot tell: %v): %s", kind, name, err, out)
		}
	}
	mustLab(t, "down", name)
}
