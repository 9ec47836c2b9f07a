package labs

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"wirelab.dev/wirelab/internal/kube"
)

// Pods that kubelets leave lying are changed and changed back; others are left alone.
func TestHasten(t *testing.T) {
	const running, pending = corev1.PodRunning, corev1.PodPending
	pod := func(name, app string, phase corev1.PodPhase, ready corev1.ConditionStatus, waits string) *corev1.Pod {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: SystemNamespace, UID: types.UID(name), Labels: map[string]string{"k8s-app": app}},
			Spec:       corev1.PodSpec{NodeName: "a"},
			Status:     corev1.PodStatus{Phase: phase, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
		}
		if waits != "" {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: waits}}}}
		}
		return p
	}
	init := pod("init", "kube-proxy", pending, corev1.ConditionFalse, "PodInitializing")
	init.Status.InitContainerStatuses = pod("", "", "", "", "CreateContainerConfigError").Status.ContainerStatuses
	client := fake.NewClientset(
		pod("dns-late", "kube-dns", running, corev1.ConditionFalse, ""), pod("dns-ready", "kube-dns", running, corev1.ConditionTrue, ""),
		pod("dns-waits", "kube-dns", pending, corev1.ConditionFalse, "ContainerCreating"), pod("other-late", "other", running, corev1.ConditionFalse, ""),
		pod("put-off", "kube-proxy", pending, corev1.ConditionFalse, "CreateContainerConfigError"), init,
	)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	var patched []string
	all := make(chan struct{})
	client.PrependReactor("patch", "pods", func(a k8stesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		p := a.(k8stesting.PatchAction)
		if len(patched) == 0 {
			cancel() // what is begun is ended all the same
		}
		if patched = append(patched, p.GetName()+" "+string(p.GetPatch())); len(patched) == 6 {
			close(all)
		}
		return false, nil, nil
	})
	l := &Lab{Kube: &kube.Client{Interface: client}}
	stop := l.hasten(ctx)
	<-all
	stop()
	var want []string
	for _, name := range []string{"dns-late", "init", "put-off"} {
		want = append(want, name+` {"metadata":{"annotations":{"wirelab.dev/look-again":"now"}}}`, name+` {"metadata":{"annotations":{"wirelab.dev/look-again":null}}}`)
	}
	if !slices.Equal(patched, want) {
		t.Errorf("patched %q, want %q", patched, want)
	}
	list, err := client.CoreV1().Pods(SystemNamespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || slices.ContainsFunc(list.Items, func(p corev1.Pod) bool { return len(p.Annotations) > 0 }) {
		t.Errorf("pods have annotations: %v, %v", list, err)
	}
}

// A pod without a sandbox is changed once it has had none for a while; what has one, no node, or is none of the lab's, is not.
func TestHastenBarePods(t *testing.T) {
	pod := func(namespace, name, app, node string, sandbox corev1.ConditionStatus) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, UID: types.UID(name), Labels: map[string]string{"app": app}},
			Spec:       corev1.PodSpec{NodeName: node},
			Status:     corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodReadyToStartContainers, Status: sandbox}}},
		}
	}
	client := fake.NewClientset(
		pod(SystemNamespace, "agent", "", "a", corev1.ConditionFalse), pod(SystemNamespace, "starts", "", "a", corev1.ConditionTrue),
		pod(SystemNamespace, "unscheduled", "", "", corev1.ConditionFalse), pod("default", "cni", "cni", "a", corev1.ConditionFalse),
		pod("default", "user", "web", "a", corev1.ConditionFalse), pod("other", "theirs", "demo", "a", corev1.ConditionFalse),
	)
	patched := map[string]int{}
	client.PrependReactor("patch", "pods", func(a k8stesting.Action) (bool, runtime.Object, error) {
		patched[a.(k8stesting.PatchAction).GetName()]++
		return false, nil, nil
	})
	l, bare := &Lab{Kube: &kube.Client{Interface: client}}, map[types.UID]int{}
	for look := range hastenAfter {
		if len(patched) > 0 {
			t.Errorf("after %d looks %v is changed", look, patched)
		}
		if err := l.lookAgain(t.Context(), bare); err != nil {
			t.Fatal(err)
		}
	}
	if want := map[string]int{"agent": 2, "cni": 2}; !maps.Equal(patched, want) {
		t.Errorf("changes of pods are %v, want %v", patched, want)
	}
}
