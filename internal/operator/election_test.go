package operator

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// TestHungIsUnhealthy: who has lost the lead, and does not end, is ended by the kubelet.
func TestHungIsUnhealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		e := &election{cfg: Config{Identity: "a", Namespace: "kube-system"}, client: client, log: slog.New(slog.DiscardHandler)}
		leads, hangs, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- e.run(t.Context(), func(context.Context) error { close(leads); <-hangs; return nil })
		}()
		<-leads
		const long = leaseDuration + 3*renewDeadline
		time.Sleep(long)
		if err := e.healthy(); err != nil {
			t.Errorf("while it leads: %v", err)
		}
		client.PrependReactor("update", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, errors.New("nobody answers")
		})
		time.Sleep(long)
		if e.healthy() == nil {
			t.Error("it is healthy without having renewed its lease")
		}
		close(hangs)
		if err := <-ended; !errors.Is(err, errLost) {
			t.Errorf("it ends with %v", err)
		}
	})
}
