package agent

import (
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"wirelab.dev/wirelab/internal/agent/config"
	"wirelab.dev/wirelab/internal/apiserver"
	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/crd/crdtest"
)

// TestPublishedAddressesRestHoweverLateTheyAreHeardOf: what the node said of its pods before it booted may come after what
// else an agent has to know before it gives out addresses. Without an API server it waits for nothing.
func TestPublishedAddressesRestHoweverLateTheyAreHeardOf(t *testing.T) {
	before := &crd.LabNode{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: crd.LabNodeStatus{Endpoints: []crd.Endpoint{{Address: netip.MustParseAddr("10.0.0.2"), Identity: 300}}}}
	objects, _ := crdtest.NewClient(before)
	k, err := newKube(apiserver.Server{Kubernetes: fake.NewClientset(), Objects: objects}, "n1", "")
	if err != nil {
		t.Fatal(err)
	}
	eps, _ := testEndpoints(t, "10.0.0.0/29")
	a := &Agent{cfg: config.Config{NodeName: "n1"}, kube: k, log: quiet()}
	start := time.Now()
	a.retirePublished(t.Context(), eps.pool)
	if took := time.Since(start); took > serverPatience/2 {
		t.Errorf("without an API server it took %v", took)
	}
	go k.nodeInf.RunWithContext(t.Context())
	eventually(t, "the nodes are known", k.nodeInf.HasSynced)
	late := time.AfterFunc(300*time.Millisecond, func() { k.labNodes.RunWithContext(t.Context()) })
	defer late.Stop()
	a.retirePublished(t.Context(), eps.pool)
	if got := mustAdd(t, eps, "a"); got.String() != "10.0.0.3" || eps.pool.Resting() != 1 {
		t.Errorf("a pod has %s, and %d addresses rest: other nodes know 10.0.0.2", got, eps.pool.Resting())
	}
}
