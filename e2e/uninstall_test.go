//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/cli"
)

// traces finds what wirelab makes on a node, a line each. It prints nothing on a clean one. Programs on
// devices, and maps, live as long as their pins and devices do; a list of them would show every lab of the
// machine. Programs at sockets are listed by the node's own groups.
const traces = `
ip -o link | grep -oE ': (lxc[0-9a-f]{8}|lab_[a-z]+)[@:]'
ip -4 route show table all | grep -E 'lab_|proto (wirelab|[0-9]+)'
find /sys/fs/bpf/wirelab /run/wirelab /etc/cni/net.d/05-wirelab.conflist /opt/cni/bin/wirelab-cni 2>/dev/null
iptables-save | grep -E 'LAB-|wirelab'
bpftool cgroup tree | grep -oE 'lab_[a-z0-9]+'
sysctl -n net.ipv4.ip_local_reserved_ports | sed -n 's/^.*65535$/reserved &/p'
true`

// testUninstall removes the release as `helm uninstall` does and wants the nodes as they were found.
func testUninstall(t *testing.T, profile, name string) {
	wants := []string{"lxc", "lab_host", "/sys/fs/bpf/wirelab"}
	if profile == "kubeproxy" || profile == "kubeproxy-replacement" { // the others write no rule of iptables
		wants = append(wants, "LAB-")
	}
	if profile != "kubeproxy" {
		wants = append(wants, "lab_connect4", "reserved")
	}
	if profile == "vxlan" || profile == "geneve" {
		wants = append(wants, "lab_"+profile)
	}
	for _, node := range containers(t, name) {
		for _, want := range wants {
			if found := onNode(t, node, "bash", "-c", traces); !strings.Contains(found, want) {
				t.Errorf("%s with wirelab installed shows no %q: this does not see what it should:\n%s", node, want, found)
			}
		}
	}
	for _, objects := range []string{"labnodes", "customresourcedefinitions -l app.kubernetes.io/part-of=wirelab"} {
		if found := kubectl(t, name, append([]string{"get", "-o", "name"}, strings.Fields(objects)...)...); found == "" {
			t.Errorf("there are no %s to go", objects)
		}
	}
	settings := cli.New()
	settings.KubeContext = "kind-" + name
	settings.SetNamespace("kube-system")
	var cfg action.Configuration
	if err := cfg.Init(settings.RESTClientGetter(), "kube-system", "secret", t.Logf); err != nil {
		t.Fatal(err)
	}
	if _, err := action.NewUninstall(&cfg).Run("wirelab"); err != nil {
		t.Fatalf("helm uninstall wirelab: %v", err)
	}
	eventually(t, time.Minute, "no objects of wirelab's after helm uninstall", func() string {
		return kubectl(t, name, "get", "customresourcedefinitions", "-l", "app.kubernetes.io/part-of=wirelab", "-o", "name")
	})
	for _, left := range relayObjects(t, name) { // but its pod: no kubelet can end that without a network
		if !strings.HasPrefix(left, "pod/") {
			t.Errorf("of the relay there is %s after helm uninstall", left)
		}
	}
	eventually(t, time.Minute, "clean nodes after helm uninstall", func() string {
		var left []string
		for _, node := range containers(t, name) {
			if found := onNode(t, node, "bash", "-c", traces); found != "" {
				left = append(left, fmt.Sprintf("%s has %s", node, strings.Join(strings.Fields(found), " ")))
			}
		}
		return strings.Join(left, "; ")
	})
}
