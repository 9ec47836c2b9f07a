package labs

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"wirelab.dev/wirelab/internal/kube"
)

// Pods that run and are not ready are changed and changed back, at most once a pause; others are left alone.
func TestHastened(t *testing.T) {
	pod := func(name string, phase corev1.PodPhase, ready corev1.ConditionStatus) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: SystemNamespace, Labels: map[string]string{"k8s-app": "kube-dns"}},
			Status:     corev1.PodStatus{Phase: phase, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
		}
	}
	client := fake.NewClientset(pod("late", corev1.PodRunning, corev1.ConditionFalse), pod("ready", corev1.PodRunning, corev1.ConditionTrue), pod("waits", corev1.PodPending, corev1.ConditionFalse))
	var patched []string
	client.PrependReactor("patch", "pods", func(a k8stesting.Action) (bool, runtime.Object, error) {
		p := a.(k8stesting.PatchAction)
		patched = append(patched, p.GetName()+" "+string(p.GetPatch()))
		return false, nil, nil
	})
	l := &Lab{Kube: &kube.Client{Interface: client}}
	ready := false
	w := l.hastened(kube.Want{Name: "CoreDNS", Look: func(context.Context) (kube.State, error) { return kube.State{Ready: ready}, nil }}, dnsLabel)
	look := func() {
		t.Helper()
		if s, err := w.Look(t.Context()); err != nil || s.Ready != ready {
			t.Fatalf("%+v, %v", s, err)
		}
	}
	look()
	look()
	want := []string{`late {"metadata":{"annotations":{"wirelab.dev/probe-again":"now"}}}`, `late {"metadata":{"annotations":{"wirelab.dev/probe-again":null}}}`}
	if !slices.Equal(patched, want) {
		t.Errorf("patched %q, want %q", patched, want)
	}
	p, err := client.CoreV1().Pods(SystemNamespace).Get(t.Context(), "late", metav1.GetOptions{})
	if err != nil || len(p.Annotations) > 0 {
		t.Errorf("the pod has annotations %v, %v", p.Annotations, err)
	}
	patched, ready = nil, true
	w = l.hastened(w, dnsLabel)
	look()
	if len(patched) > 0 {
		t.Errorf("ready, and patched %q", patched)
	}
}
