//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// churn is how many pods come and go on one node.
const churn = 24

// testChurn makes and deletes pods on one node. What the kernel and the file system hold of pods must
// be afterwards what it was before; in between it must not be, or the comparison would see nothing.
func testChurn(t *testing.T, lab string) {
	node := lab + "-worker"
	image := kubectl(t, lab, "get", "daemonset", "demo", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	before := inventory(t, node)

	apply(t, lab, fmt.Sprintf(churnManifest, churn, node, image))
	t.Cleanup(func() { kubectl(t, lab, "delete", "deployment", "churn", "--ignore-not-found", "--wait=false") })
	eventually(t, 5*time.Minute, fmt.Sprintf("%d pods on %s", churn, node), func() string {
		ready := kubectl(t, lab, "get", "deployment", "churn", "-o", "jsonpath={.status.readyReplicas}")
		if ready == fmt.Sprint(churn) {
			return ""
		}
		return ready + " are ready"
	})
	during := inventory(t, node)
	for what, was := range before {
		if grown := len(during[what]) - len(was); what != "routes" && grown < churn {
			t.Errorf("%s: %d more with %d more pods: this does not see what it should", what, grown, churn)
		}
	}

	kubectl(t, lab, "delete", "deployment", "churn", "--cascade=foreground", "--timeout=5m")
	eventually(t, time.Minute, "nothing left of "+fmt.Sprint(churn)+" pods", func() string {
		after := inventory(t, node)
		var left []string
		for what, was := range before {
			if now := after[what]; strings.Join(now, "\n") != strings.Join(was, "\n") {
				left = append(left, fmt.Sprintf("%s were %v and are %v", what, was, now))
			}
		}
		return strings.Join(left, "; ")
	})
}

// inventory is what a node holds of pods, sorted lines by kind.
func inventory(t *testing.T, node string) map[string][]string {
	t.Helper()
	list := func(script string) []string {
		return strings.Fields(onNode(t, node, "bash", "-c", script))
	}
	return map[string][]string{
		"veths":      list(`ip -o link show type veth | sed 's/^[0-9]*: //; s/@.*//' | grep ^lxc | sort || true`),
		"routes":     list(`ip -4 route show table all | tr ' ' _ | sort`),
		"map keys":   list(`for m in $(find /sys/fs/bpf/wirelab -name lab_endpoints); do bpftool -j map dump pinned "$m" | jq -c '.[].key | join("")' | sort; done`),
		"pins":       list(`find /sys/fs/bpf/wirelab | sort`),
		"namespaces": list(`ls /var/run/netns | sort`),
	}
}

const churnManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: churn, namespace: default}
spec:
  replicas: %d
  selector: {matchLabels: {app: churn}}
  template:
    metadata: {labels: {app: churn}}
    spec:
      nodeName: %s
      terminationGracePeriodSeconds: 0
      containers:
      - {name: nettool, image: %q, imagePullPolicy: Never}
`
