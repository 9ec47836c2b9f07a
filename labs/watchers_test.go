package labs

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestHeardAgain waits for pods that the API server was away from, as long as they may take, and for no others.
func TestHeardAgain(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	runs := func(name string, started time.Duration) corev1.Pod {
		return corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name},
			Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
				State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(now.Add(-started))}},
			}}},
		}
	}
	static := func(p corev1.Pod) corev1.Pod {
		p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
		return p
	}
	server := func(ready time.Duration) corev1.Pod {
		p := static(runs("kube-apiserver", ready+10*time.Second))
		p.Labels = map[string]string{"component": "kube-apiserver"}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-ready))}}
		return p
	}
	createdFor := func(age time.Duration, p corev1.Pod) corev1.Pod {
		p.CreationTimestamp = metav1.NewTime(now.Add(-age))
		return p
	}
	starting := server(time.Second)
	starting.Status.Conditions[0].Status = corev1.ConditionFalse
	down := server(time.Second)
	down.Status = corev1.PodStatus{}
	for _, tt := range []struct {
		what string
		pods []corev1.Pod
		why  string // empty: all have heard
	}{
		{"a new lab", []corev1.Pod{server(20 * time.Second), runs("coredns", 15*time.Second), static(runs("kube-scheduler", 25*time.Second))}, ""},
		{"a server that is starting", []corev1.Pod{starting, runs("coredns", time.Hour)}, "is not ready"},
		{"a new lab whose server is not called ready yet", []corev1.Pod{starting, createdFor(9*time.Second, runs("coredns", time.Second))}, ""},
		{"a new lab whose server was called ready late", []corev1.Pod{server(20 * time.Second), createdFor(29*time.Second, runs("coredns", 25*time.Second))}, ""},
		{"a pod as old as its server", []corev1.Pod{server(5 * time.Second), createdFor(15*time.Second, runs("coredns", 10*time.Second))}, "until 03:04:10"},
		{"a pod that was started again with its server", []corev1.Pod{server(5 * time.Second), createdFor(time.Hour, runs("coredns", 10*time.Second))}, "until 03:04:10"},
		{"a server that is said not to run", []corev1.Pod{down, createdFor(9*time.Second, runs("coredns", time.Second))}, "is not ready"},
		{"a server that is back", []corev1.Pod{runs("coredns", time.Hour), server(20 * time.Second)}, "until 03:05:00"},
		{"one that has been back for long", []corev1.Pod{runs("coredns", time.Hour), server(76 * time.Second)}, ""},
		{"one of two", []corev1.Pod{runs("coredns", time.Hour), server(time.Hour), server(74 * time.Second)}, "until 03:04:06"},
		{"a node that was started anew", []corev1.Pod{runs("coredns", 25*time.Second), server(20 * time.Second)}, ""},
		{"and not for long", []corev1.Pod{runs("coredns", 25*time.Second), server(5 * time.Second)}, "until 03:04:40"},
		{"a pod that does not run", []corev1.Pod{{}, server(time.Second)}, ""},
	} {
		s := heardAgain(tt.pods, now)
		if s.Ready != (tt.why == "") || !strings.Contains(s.Why, tt.why) || s.Ready == (s.Blame.Name != "") {
			t.Errorf("%s: %+v, want %q", tt.what, s, tt.why)
		}
	}
}
