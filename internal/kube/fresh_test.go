package kube

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
