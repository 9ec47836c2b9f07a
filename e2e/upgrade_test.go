//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/cli"
)

// testUpgrade upgrades the chart to an agent of another tag with Helm and rolls back, then kills agents, under traffic. Before that
// it has traffic lost, as what counts the losses has to see them.
func testUpgrade(t *testing.T, lab string) {
	lost := loseTraffic(t, lab)
	h := helmOf(t, lab)
	deployed, err := h.Releases.Deployed("wirelab")
	if err != nil {
		t.Fatal(err)
	}
	image := kubectl(t, lab, "-n", "kube-system", "get", "daemonset", "wirelab-agent", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	repository, _, _ := strings.Cut(image, ":")
	for _, node := range containers(t, lab) {
		onNode(t, node, "ctr", "-n", "k8s.io", "images", "tag", "docker.io/"+image, "docker.io/"+repository+":another")
	}
	underTraffic(t, lab, "an upgrade, a rollback and two killed agents", func(nodes []string) {
		chart, err := loader.Load("../charts/wirelab")
		if err != nil {
			t.Fatal(err)
		}
		u := action.NewUpgrade(h)
		u.Namespace, u.ReuseValues, u.Timeout = "kube-system", true, 2*time.Minute
		values := map[string]any{"image": map[string]any{"tag": "another"}, "prometheus": map[string]any{"enabled": false}}
		if _, err := u.RunWithContext(context.WithoutCancel(t.Context()), "wirelab", chart, values); err != nil {
			t.Fatal(err)
		}
		wantAgents(t, lab, repository+":another")
		r := action.NewRollback(h)
		r.Version, r.Timeout = deployed.Version, 2*time.Minute
		if err := r.Run("wirelab"); err != nil {
			t.Fatal(err)
		}
		wantAgents(t, lab, image)
		killAgents(t, lab, nodes)
	})
	if r := lost.result(t); r.OK == r.Sent || r.Lost == 0 {
		t.Errorf("without a way for a second: %+v: this does not see what is lost", r)
	}
	var again struct{ Steps []struct{ Name, Note string } }
	labJSON(t, &again, append(up("ebpf", lab), "--no-verify")...)
	for _, s := range again.Steps {
		if s.Name == "release" && s.Note != "unchanged" {
			t.Errorf("after the rollback lab up finds the release %s", s.Note)
		}
	}
}

// loseTraffic takes the way from requests that are under way for a second. They go on for half a minute, to outlast it on a busy
// machine, too.
func loseTraffic(t *testing.T, lab string) stream {
	t.Helper()
	client, server := demoPair(t, lab)
	s := startRequests(t, lab, client, server.IP, 20, 30, "--connections", "5", "--request-timeout", "500ms")
	eventually(t, 5*time.Second, "connections to be there", func() string {
		if there := lines(kubectl(t, lab, "exec", client.Name, "--", "ss", "-Htn", "state", "established", "dst", server.IP)); len(there) < 5 {
			return fmt.Sprintf("%d of 5: %s", len(there), strings.Join(there, "; "))
		}
		return ""
	})
	onNode(t, client.Node, "ip", "route", "add", "blackhole", server.IP)
	time.Sleep(time.Second) // each connection has a request meanwhile, which waits for half of that
	onNode(t, client.Node, "ip", "route", "del", "blackhole", server.IP)
	s.wantRunning(t)
	return s
}

// helmOf is Helm on a lab's cluster, as its command line would be.
func helmOf(t *testing.T, lab string) *action.Configuration {
	t.Helper()
	settings := cli.New()
	settings.KubeConfig, settings.KubeContext = os.Getenv("KUBECONFIG"), "kind-"+lab
	settings.SetNamespace("kube-system")
	h := new(action.Configuration)
	if err := h.Init(settings.RESTClientGetter(), "kube-system", "secret", func(string, ...any) {}); err != nil {
		t.Fatal(err)
	}
	return h
}

// wantAgents waits until every node's agent is ready and runs an image.
func wantAgents(t *testing.T, lab, image string) {
	t.Helper()
	kubectl(t, lab, "-n", "kube-system", "rollout", "status", "daemonset/wirelab-agent", "--timeout=100s")
	images := kubectl(t, lab, "-n", "kube-system", "get", "pods", "-l", "app.kubernetes.io/name=wirelab-agent", "-o",
		`jsonpath={range .items[*]}{.spec.containers[0].image}{"\n"}{end}`)
	for _, has := range strings.Fields(images) {
		if has != image {
			t.Errorf("an agent runs %s, want %s", has, image)
		}
	}
}
