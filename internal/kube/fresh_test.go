package kube

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestHeardSince(t *testing.T) {
	at := time.Now()
	lease := func(renewed time.Time) *coordinationv1.Lease {
		m := metav1.NewMicroTime(renewed)
		return &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: "a"}, Spec: coordinationv1.LeaseSpec{RenewTime: &m},
		}
	}
	// A node that is Ready by what it said before it was stopped.
	if s := state(t, cluster(readyNode("a", corev1.ConditionTrue), lease(at.Add(-time.Second))).HeardSince(at, "a")); s.Ready || s.Blame.Name != "a" {
		t.Errorf("%+v", s)
	}
	if s := state(t, cluster(readyNode("a", corev1.ConditionTrue), lease(at.Add(time.Second))).HeardSince(at, "a")); !s.Ready {
		t.Errorf("%+v", s)
	}
	if s := state(t, cluster().HeardSince(at, "a")); s.Ready {
		t.Error("a node that nobody knows has reported")
	}
}

// TestLeads goes by what others have renewed, not by the clock.
func TestLeads(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	lease := func(namespace, name string, ago time.Duration) *coordinationv1.Lease {
		m, seconds := metav1.NewMicroTime(at.Add(-ago)), int32(15)
		return &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: coordinationv1.LeaseSpec{RenewTime: &m, LeaseDurationSeconds: &seconds},
		}
	}
	node := lease(corev1.NamespaceNodeLease, "a", 0)
	for _, tt := range []struct {
		what   string
		leases []runtime.Object
		why    string
	}{
		{"at work", []runtime.Object{node, lease("kube-system", "x", 14*time.Second)}, ""},
		{"ended", []runtime.Object{node, lease("kube-system", "x", 42*time.Second)}, "has not renewed its lease for 42s"},
		{"nobody renews anything", []runtime.Object{lease("kube-system", "x", 42*time.Second)}, ""},
		{"no such lease", []runtime.Object{node, lease("ns", "x", time.Hour)}, ""},
		{"what others keep", []runtime.Object{node, lease("kube-system", "x", 0), lease("ns", "later", -time.Hour)}, ""},
	} {
		s := state(t, cluster(tt.leases...).Leads("x"))
		if s.Ready != (tt.why == "") || s.Why != tt.why {
			t.Errorf("%s: %+v, want %q", tt.what, s, tt.why)
		}
	}
}

// TestStartedSince asks about the nodes that were stopped, and no other: what was paused goes on where it was.
func TestStartedSince(t *testing.T) {
	at := time.Now()
	pod := func(node string, started time.Time) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "on-" + node}, Spec: corev1.PodSpec{NodeName: node},
			Status: corev1.PodStatus{
				Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
				ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(started)}}}},
			},
		}
	}
	c := cluster(pod("a", at.Add(-time.Minute)), pod("b", at.Add(2*time.Second)))
	if s := state(t, c.StartedSince(at, "a", "b")); s.Ready || s.Blame.Name != "on-a" {
		t.Errorf("%+v", s)
	}
	if s := state(t, c.StartedSince(at, "b")); !s.Ready {
		t.Errorf("%+v", s)
	}
}
