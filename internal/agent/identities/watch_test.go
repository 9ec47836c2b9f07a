package identities

import (
	"context"
	"strconv"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/crd/crdtest"
	"wirelab.dev/wirelab/internal/identity"
)

func object(id identity.ID, app string) *crd.LabIdentity {
	return &crd.LabIdentity{
		ObjectMeta: metav1.ObjectMeta{Name: strconv.Itoa(int(id))},
		Spec:       crd.LabIdentitySpec{Namespace: "ns", ServiceAccount: "default", Labels: map[string]string{"app": app}},
	}
}

func set(app string) identity.Set {
	return identity.Set{Namespace: "ns", ServiceAccount: "default", Labels: map[string]string{"app": app}}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come to be that %s", what)
		}
	}
}

// TestWatch: two agents share objects. They give one set one number, hear what is made, retired and deleted by others, and
// take the lower of two.
func TestWatch(t *testing.T) {
	objects, server := crdtest.NewClient(object(300, "a"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var agents [2]*Watch
	changed := make(chan struct{}, 1000)
	for i := range agents {
		w, err := NewWatch(objects.Identities)
		if err != nil {
			t.Fatal(err)
		}
		w.Follow(func() { changed <- struct{}{} })
		done := make(chan struct{})
		go func() { defer close(done); w.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		eventually(t, "there is a list", w.HasSynced)
		if err := w.Listed(ctx); err != nil {
			t.Error(err)
		}
		agents[i] = w
	}
	of := func(w *Watch, app string) identity.ID {
		t.Helper()
		id, err := w.Of(ctx, set(app))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	server.ClearActions()
	if got := of(agents[0], "a"); got != 300 || len(server.Actions()) != 0 {
		t.Errorf("a is %d after %v", got, server.Actions())
	}
	b := of(agents[0], "b")
	if got := of(agents[1], "b"); got != b || !b.OfPods() {
		t.Errorf("b is %d and %d", b, got)
	}

	if _, err := objects.Identities.Create(ctx, object(299, "a"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, w := range agents {
		eventually(t, "a is the lower of its numbers", func() bool { return of(w, "a") == 299 })
	}
	retired := object(299, "a")
	retired.Annotations = map[string]string{crd.Unused: time.Now().Add(-time.Hour).Format(time.RFC3339)}
	if _, err := objects.Identities.Update(ctx, retired, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, w := range agents {
		eventually(t, "a is not the one that is retired", func() bool { return of(w, "a") == 300 })
	}
	if err := objects.Identities.Delete(ctx, "299", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, w := range agents {
		eventually(t, "299 is gone", func() bool { _, ok := w.Numbers().Get(299); return !ok })
	}
	if len(changed) == 0 {
		t.Error("nobody was told of changes")
	}
}

// TestNumberBeforeTheList: pods that start while the list is on its way ask the API server for nothing, least of all for a
// number that the list may have.
func TestNumberBeforeTheList(t *testing.T) {
	objects, server := crdtest.NewClient(object(300, "a"))
	w, err := NewWatch(objects.Identities)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := w.Of(t.Context(), set("a")); err == nil || len(server.Actions()) > 0 {
		t.Errorf("it is %v after %v", id, server.Actions())
	}
}
