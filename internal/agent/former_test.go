package agent

import (
	"errors"
	"net/netip"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"wirelab.dev/wirelab/internal/agent/config"
	"wirelab.dev/wirelab/internal/apiserver"
	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/crd/crdtest"
)

// TestPublishedAddressesRestHoweverLateTheListIs: what the node said of its pods before it booted is heard of although the
// list of all LabNodes is not here, as when it has been asked for in vain. Of an API server that says nothing, nothing is asked.
func TestPublishedAddressesRestHoweverLateTheListIs(t *testing.T) {
	said := func(name, addr string) *crd.LabNode {
		return &crd.LabNode{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: crd.LabNodeStatus{Endpoints: []crd.Endpoint{{Address: netip.MustParseAddr(addr), Identity: 300}}}}
	}
	objects, requests := crdtest.NewClient(said("n1", "10.0.0.2"), said("n2", "10.0.0.3"))
	fails := 1
	requests.PrependReactor("list", crd.LabNodes, func(clienttesting.Action) (bool, runtime.Object, error) {
		fails--
		return fails >= 0, nil, errors.New("not yet")
	})
	k, err := newKube(apiserver.Server{Kubernetes: fake.NewClientset(), Objects: objects}, "n1", "")
	if err != nil {
		t.Fatal(err)
	}
	eps, _ := testEndpoints(t, "10.0.0.0/29")
	a := &Agent{cfg: config.Config{NodeName: "n1"}, kube: k, objects: objects, log: quiet()}
	a.retirePublished(t.Context(), eps.pool)
	if len(requests.Actions()) > 0 {
		t.Errorf("an API server that has said nothing is asked: %v", requests.Actions())
	}
	go k.nodeInf.RunWithContext(t.Context())
	eventually(t, "the nodes are known", k.nodeInf.HasSynced)
	a.retirePublished(t.Context(), eps.pool)
	if got := mustAdd(t, eps, "a"); got.String() != "10.0.0.3" || eps.pool.Resting() != 1 {
		t.Errorf("a pod has %s, and %d addresses rest: other nodes know 10.0.0.2", got, eps.pool.Resting())
	}
}
