//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// testRights holds an agent's own token against what it must not write: the status of another node, and of
// its own all but the condition of the network. That it may write this one is the control.
func testRights(t *testing.T, lab string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	agents := podsOf(t, lab, "kube-system", "app.kubernetes.io/name=wirelab-agent")
	if len(agents) < 2 {
		t.Fatalf("this needs agents on two nodes: %v", agents)
	}
	own, other := agents[0].Node, agents[1].Node
	bound := withToken(t, lab, "--bound-object-kind", "Pod", "--bound-object-name", agents[0].Name)
	unbound := withToken(t, lab)

	condition := fmt.Sprintf(`{"status":{"conditions":[{"type":"NetworkUnavailable","status":"False","reason":"WirelabIsUp",`+
		`"message":"wirelab carries the traffic of this node's pods","lastHeartbeatTime":%[1]q,"lastTransitionTime":%[1]q}]}}`,
		time.Now().UTC().Format(time.RFC3339))
	for _, try := range []struct {
		what        string
		client      kubernetes.Interface
		node, patch string
		refused     string // part of the message; empty when it is to be taken
	}{
		{"its own node's condition", bound, own, condition, ""},
		{"another node's condition", bound, other, condition, "its own node only"},
		{"with a token of no pod", unbound, own, condition, "its own node only"},
		{"its own node's address", bound, own, `{"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.66"}]}}`, "NetworkUnavailable only"},
		{"another condition", bound, own, `{"status":{"conditions":[{"type":"Ready","status":"False"}]}}`, "NetworkUnavailable only"},
		{"a label", bound, own, `{"metadata":{"labels":{"wirelab.dev/e2e":"planted"}},"status":{}}`, "NetworkUnavailable only"},
	} {
		_, err := try.client.CoreV1().Nodes().Patch(ctx, try.node, types.StrategicMergePatchType, []byte(try.patch), metav1.PatchOptions{}, "status")
		switch {
		case try.refused == "" && err != nil:
			t.Errorf("%s: %v", try.what, err)
		case try.refused != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), try.refused)):
			t.Errorf("%s: %v, want it to be refused: %s", try.what, err, try.refused)
		}
	}
	if _, err := bound.CoreV1().Nodes().Get(ctx, own, metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("to get a node: %v, want it to be refused: an agent lists them", err)
	}
	if _, err := bound.CoreV1().Nodes().Patch(ctx, own, types.StrategicMergePatchType, []byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("to change a node: %v, want it to be refused", err)
	}
}

// withToken is a client of the lab's API server as the agents' service account.
func withToken(t *testing.T, lab string, bound ...string) kubernetes.Interface {
	t.Helper()
	token := kubectl(t, lab, append([]string{"-n", "kube-system", "create", "token", "wirelab-agent"}, bound...)...)
	loading := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(),
		&clientcmd.ConfigOverrides{CurrentContext: "kind-" + lab})
	admin, err := loading.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	cfg := rest.AnonymousClientConfig(admin)
	cfg.BearerToken = strings.TrimSpace(token)
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}
