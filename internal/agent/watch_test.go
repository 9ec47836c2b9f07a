package agent

import (
	"context"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"wirelab.dev/wirelab/internal/agent/kubetest"
	"wirelab.dev/wirelab/internal/reconcile"
)

// watched is a node whose reconcilers count their runs.
type watched struct {
	client                                   *fake.Clientset
	routes, masquerade, hostPorts, condition atomic.Int32
	changed                                  chan error
}

func watchFake(t *testing.T) *watched {
	t.Helper()
	w := &watched{client: fake.NewClientset(kubeNode("n1", "192.0.2.1", "10.0.1.0/24")), changed: make(chan error, 1)}
	k := startKube(t, w.client)
	count := func(name string, c *atomic.Int32) *reconcile.Reconciler {
		return reconcile.New(name, func(context.Context) error { c.Add(1); return nil }, reconcile.Options{}, quiet())
	}
	n := &node{self: self{netip.MustParseAddr("192.0.2.1"), netip.MustParsePrefix("10.0.1.0/24")}, reconcilers: reconcilers{
		routes: count("routes", &w.routes), masquerade: count("masquerade", &w.masquerade),
		hostPorts: count("hostports", &w.hostPorts), condition: count("condition", &w.condition),
	}}
	n.reconcilers.all = reconcile.Group{n.reconcilers.routes, n.reconcilers.masquerade, n.reconcilers.hostPorts, n.reconcilers.condition}
	if err := n.watchKube(k, "n1", w.changed); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.reconcilers.all.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	eventually(t, "everything ran once", func() bool {
		return w.routes.Load() > 0 && w.masquerade.Load() > 0 && w.hostPorts.Load() > 0 && w.condition.Load() > 0
	})
	return w
}

func TestNodesTriggerRoutesAndMasquerade(t *testing.T) {
	w := watchFake(t)
	routes, masquerade := w.routes.Load(), w.masquerade.Load()
	if _, err := w.client.CoreV1().Nodes().Create(t.Context(), kubeNode("n2", "192.0.2.2", "10.0.2.0/24"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both ran for a new node", func() bool { return w.routes.Load() > routes && w.masquerade.Load() > masquerade })
	routes = w.routes.Load()
	if err := w.client.CoreV1().Nodes().Delete(t.Context(), "n2", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "routes ran for a node that went", func() bool { return w.routes.Load() > routes })
}

func TestOwnNodeTriggersTheConditionOnly(t *testing.T) {
	w := watchFake(t)
	routes, condition := w.routes.Load(), w.condition.Load()
	same := kubeNode("n1", "192.0.2.1", "10.0.1.0/24")
	same.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue}}
	if _, err := w.client.CoreV1().Nodes().Update(t.Context(), same, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the condition was looked at", func() bool { return w.condition.Load() > condition })
	if w.routes.Load() != routes {
		t.Error("routes ran for a node with the same address and podCIDR")
	}
}

func TestPodsWithHostPortsTriggerThem(t *testing.T) {
	w := watchFake(t)
	before := w.hostPorts.Load()
	with := kubetest.Pod("with", "10.0.1.5", 0, kubetest.HostPort("TCP", "", 80, 80))
	without := kubetest.Pod("without", "10.0.1.6", 0, kubetest.HostPort("TCP", "", 0, 80))
	for _, pod := range []*corev1.Pod{without, with} {
		pod.Namespace = "default"
		if _, err := w.client.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "host ports ran", func() bool { return w.hostPorts.Load() > before })
	// The pod without came first: had it been a trigger, two would be seen.
	if n := w.hostPorts.Load() - before; n != 1 {
		t.Errorf("host ports ran %d times for one pod that has some", n)
	}
	if err := w.client.CoreV1().Pods("default").Delete(t.Context(), "with", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "host ports ran for a pod that went", func() bool { return w.hostPorts.Load() == before+2 })
}

func TestAnotherSelfIsReported(t *testing.T) {
	w := watchFake(t)
	for _, podCIDR := range []string{"", "10.0.9.0/24"} { // one without is not another yet
		if _, err := w.client.CoreV1().Nodes().Update(t.Context(), kubeNode("n1", "192.0.2.1", podCIDR), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-w.changed; !strings.Contains(err.Error(), "10.0.1.0/24 and is now 192.0.2.1 with 10.0.9.0/24") {
		t.Errorf("reported: %v", err)
	}
}
