package agent

import (
	"context"
	"errors"
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/apiserver"
	"wirelab.dev/wirelab/internal/crd/crdtest"
	"wirelab.dev/wirelab/internal/identity"
)

// TestAddAgainTellsWhose: an endpoint that an earlier agent made, or that was damaged, is known by what a second ADD says,
// and has the identity that the datapath gave it.
func TestAddAgainTellsWhose(t *testing.T) {
	e, dp := testEndpoints(t, "10.0.0.0/28")
	hostIf := api.HostIfName("a", "eth0")
	dp.eps[hostIf] = api.Endpoint{HostIf: hostIf, Addr: e.pool.CIDR().Addr().Next().Next(), Namespace: "ns", Pod: "a", Identity: 300}
	if err := e.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.identify = func(context.Context, api.CNIRequest) identity.ID { return 301 }
	req := call("a")
	req.PodUID = "u"
	if _, err := e.add(t.Context(), req, os.Stdin); err != nil {
		t.Fatal(err)
	}
	if got := e.owned(); len(got) != 1 || got[0].uid != "u" || got[0].id != 301 {
		t.Errorf("it is known as %+v", got)
	}
}

// TestIdentityThatCannotBeSet is an error, after which the reconciler waits: what has not changed wakes nobody.
func TestIdentityThatCannotBeSet(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a", UID: "a"}, Spec: corev1.PodSpec{NodeName: "n1"}}
	objects, _ := crdtest.NewClient()
	k := startKubeWith(t, apiserver.Server{Kubernetes: fake.NewClientset(pod), Objects: objects})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); k.identities.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	eventually(t, "there is a list of identities", k.identities.HasSynced)

	e, dp := testEndpoints(t, "10.0.0.0/28")
	req := call("a")
	req.PodUID = "a"
	if _, err := e.add(t.Context(), req, os.Stdin); err != nil { // with identity init
		t.Fatal(err)
	}
	ids, err := (&Agent{kube: k, log: quiet()}).newIdentifier(e)
	if err != nil {
		t.Fatal(err)
	}
	woken := 0
	e.changed = func() { woken++ }
	dp.refuse = errors.New("the map is full")
	if err := ids.apply(t.Context()); !errors.Is(err, dp.refuse) || woken > 0 {
		t.Errorf("%v, and others are woken %d times", err, woken)
	}
	dp.refuse = nil
	if err := ids.apply(t.Context()); err != nil || woken != 1 {
		t.Errorf("when it can be set: %v, and others are woken %d times", err, woken)
	}
	if got := e.owned(); !got[0].id.OfPods() {
		t.Errorf("it has identity %v", got[0].id)
	}
}

// TestPublishedIsOfPods: other nodes are told the name of a pod, and none of a container that is no pod.
func TestPublishedIsOfPods(t *testing.T) {
	e, _ := testEndpoints(t, "10.0.0.0/28")
	mustAdd(t, e, "a")
	req := call("b")
	req.Namespace, req.Pod = "", ""
	if _, err := e.add(t.Context(), req, os.Stdin); err != nil {
		t.Fatal(err)
	}
	if got := e.published(); len(got) != 2 || got[0].Pod != "ns/a" || got[1].Pod != "" {
		t.Errorf("told is %+v", got)
	}
}
