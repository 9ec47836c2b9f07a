//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// asFound is what a node has that a network could leave, a line each, sorted.
const asFound = `{
ip -o link | sed -E 's/^[0-9]+: ([^:]+):.*/link \1/'
bpftool net | grep -E '\(|lab_' | sed 's/^/program /'
find /sys/fs/bpf /etc/cni /opt/cni/bin -not -type d
ls -d /run/wirelab 2>/dev/null
iptables-save | grep '^-' | grep -v KUBE- | sed 's/^/rule of iptables /'
ip -4 route show table all | sed 's/^/route /'
ip -4 rule | sed 's/^/rule /'
sysctl -a -r '^net\.ipv4\.(conf\.(all|default|eth0)|ip_)' 2>/dev/null
} | sort`

// testInstall puts the network on a cluster that has none, as somebody does whose cluster is not a lab, and takes it away.
// The cluster was a lab: nothing but what lab up has written down tells it from another.
func testInstall(t *testing.T, profile, name string) {
	context := "kind-" + name
	if o := lab(t, "install", profile, "--context", context); o.code != 1 || !strings.Contains(o.stderr, "it is a lab") {
		t.Errorf("on a lab: exit status %d: %s", o.code, o.stderr)
	}
	kubectl(t, name, "-n", "kube-system", "delete", "configmap", "wirelab-lab")
	if o := lab(t, "install", "kubeproxy", "--context", context); o.code != 1 || !strings.Contains(o.stderr, "it has no kube-proxy") {
		t.Errorf("without the kube-proxy that the profile needs: exit status %d: %s", o.code, o.stderr)
	}
	nodes := containers(t, name)
	if !kernelHas(t, "geneve") {
		if o := lab(t, "install", "geneve", "--context", context); o.code != 1 || !strings.Contains(o.stderr, "load the module geneve") {
			t.Errorf("without the devices that the profile needs: exit status %d: %s", o.code, o.stderr)
		}
	}
	for _, made := range []string{"daemonsets", "pods --selector=app.kubernetes.io/name=wirelab-probe"} {
		if found := kubectl(t, name, append([]string{"-n", "kube-system", "get", "-o", "name"}, strings.Fields(made)...)...); found != "" {
			t.Errorf("what was refused has made %s", found)
		}
	}
	before := map[string]string{}
	for _, node := range nodes {
		before[node] = onNode(t, node, "bash", "-c", asFound)
	}

	var first, again struct {
		Change string
		Steps  []struct{ Name, State, Note string }
		Report *struct {
			Results []struct{ Name, Status string }
		}
	}
	o := labJSON(t, &first, "install", profile, "--context", context)
	t.Logf("installed in %.1f s: %+v", o.took.Seconds(), first.Steps)
	wantVerified(t, upResult{Report: first.Report})
	if labJSON(t, &again, "install", profile, "--context", context, "--no-verify"); again.Report != nil {
		t.Errorf("with --no-verify: %+v", again.Report)
	}
	if first.Change != "installed" || again.Change != "unchanged" {
		t.Errorf("installed twice, the chart was %s, then %s", first.Change, again.Change)
	}
	if o := lab(t, "install", profile, "--context", context, "--set", "network.tunnelPort=9999"); o.code != 1 || !strings.Contains(o.stderr, "cannot change network.tunnelPort from 0 to 9999") {
		t.Errorf("with another port of the tunnel: exit status %d: %s", o.code, o.stderr)
	}
	demo := podsOf(t, name, "default", "app=demo")
	if len(demo) < 2 || demo[0].Node == demo[1].Node {
		t.Fatalf("this needs demo pods on two nodes: %v", demo)
	}
	for _, to := range []string{demo[0].IP, demo[1].IP, "demo:8080"} {
		kubectl(t, name, "exec", "cni", "--", "curl", "-sS", "-o", "/dev/null", "-m", "5", "http://"+to)
	}
	for _, node := range nodes {
		if onNode(t, node, "bash", "-c", asFound) == before[node] || onNode(t, node, "bash", "-c", traces) == "" {
			t.Errorf("%s with the network is as it was: this does not see what it should", node)
		}
	}

	var removed, none struct {
		Removed  bool
		Stranded []string
	}
	o = labJSON(t, &removed, "uninstall", "--context", context)
	t.Logf("uninstalled in %.1f s, stranded: %v", o.took.Seconds(), removed.Stranded)
	for _, node := range nodes {
		if now := onNode(t, node, "bash", "-c", asFound); now != before[node] {
			t.Errorf("%s was\n%s\nand is\n%s", node, before[node], now)
		}
		if left := onNode(t, node, "bash", "-c", traces); left != "" {
			t.Errorf("%s has %s", node, left)
		}
	}
	if left := kubectl(t, name, "get", "daemonset,service,pod,customresourcedefinition", "-o", "name"); left != "service/kubernetes" {
		t.Errorf("after uninstall there are %s", left)
	}
	if labJSON(t, &none, "uninstall", "--context", context); !removed.Removed || none.Removed || !strings.Contains(strings.Join(removed.Stranded, " "), "kube-system/coredns") {
		t.Errorf("removed: %+v, then %+v", removed, none)
	}
}
