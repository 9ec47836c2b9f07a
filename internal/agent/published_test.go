package agent

import (
	"errors"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"wirelab.dev/wirelab/internal/apiserver"
	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/crd/crdtest"
)

// TestFailedPublicationIsSettled holds that a write which failed, and may have been carried out all the same, is followed by
// one that is known to be, although what is known of the object is right already.
func TestFailedPublicationIsSettled(t *testing.T) {
	eps, _ := testEndpoints(t, "10.0.0.0/29")
	mustAdd(t, eps, "stays")
	before := &crd.LabNode{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: crd.LabNodeStatus{Endpoints: eps.published()}}
	objects, requests := crdtest.NewClient(before)
	writes, fail := 0, true
	requests.PrependReactor("patch", crd.LabNodes, func(clienttesting.Action) (bool, runtime.Object, error) {
		writes++
		return fail, nil, errors.New("no answer")
	})
	k := startKubeWith(t, apiserver.Server{Kubernetes: fake.NewClientset(), Objects: objects})
	apply := (&publisher{labNode: labNode{objects: objects.Nodes, kube: k, nodeName: "n1"}, eps: eps}).paced()
	want := func(when string, n int) {
		t.Helper()
		if err := apply(t.Context()); (err != nil) != fail || writes != n {
			t.Fatalf("%s: %v after %d writes, want %d", when, err, writes, n)
		}
	}
	goes := mustAdd(t, eps, "goes")
	want("another pod is told of", 1)
	if err := eps.remove(t.Context(), call("goes")); err != nil {
		t.Fatal(err)
	}
	want("it is gone", 2)
	fail = false
	want("it is gone, and the API server answers", 3)
	want("nothing has changed", 3)
	if eps.pool.Resting() != 1 || eps.pool.Forgotten(goes) {
		t.Errorf("%s counts as forgotten at once", goes)
	}
}
