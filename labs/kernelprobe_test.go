package labs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"wirelab.dev/wirelab/profiles"
)

// ending is how a probing pod ends on a node.
func ending(phase corev1.PodPhase, reason, lastWords string) corev1.PodStatus {
	s := corev1.PodStatus{Phase: phase, Reason: reason}
	if lastWords != "" {
		s.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: lastWords}}}}
	}
	return s
}

// TestKernelProbe has pods end in several ways on the nodes of a cluster. They are gone after it, however they ended.
func TestKernelProbe(t *testing.T) {
	fit := ending(corev1.PodSucceeded, "", "")
	old := ending(corev1.PodFailed, "Error", "wirelab-agent: this kernel has no BPF atomics\nand much more")
	waits := corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "no such image"}},
	}}}
	for _, tt := range []struct {
		name string
		ends map[string]corev1.PodStatus // by node
		want string                      // empty: all is well
	}{
		{"all are fit", map[string]corev1.PodStatus{"n1": fit, "n2": fit}, ""},
		{"one is old", map[string]corev1.PodStatus{"n1": fit, "n2": old}, "the cluster cannot take it: node n2 cannot run what the profile asks for: this kernel has no BPF atomics"},
		{
			"several are old", map[string]corev1.PodStatus{"n1": old, "n2": old, "n3": fit},
			"the cluster cannot take it: node n1 (the first of 2 such nodes) cannot run what the profile asks for: this kernel has no BPF atomics",
		},
		{
			"one is refused", map[string]corev1.PodStatus{"n1": ending(corev1.PodFailed, "OutOfcpu", ""), "n2": fit},
			"the cluster cannot take it: node n1 has not run the pod that tries its kernel: OutOfcpu",
		},
		{
			"one does not start", map[string]corev1.PodStatus{"n1": waits, "n2": fit},
			"the cluster cannot take it: node n1 has not tried its kernel within 1s (ErrImagePull, no such image): look at its kubelet",
		},
		{
			"one is not looked at", map[string]corev1.PodStatus{"n1": fit, "n2": {Phase: corev1.PodPending}},
			"the cluster cannot take it: node n2 has not tried its kernel within 1s (pod pending): look at its kubelet",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, made := probeOf(t, tt.ends)
			var nodes []corev1.Node
			for name := range tt.ends {
				nodes = append(nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
			}
			err := k.run(t.Context(), nodes)
			if got := fmt.Sprint(err); tt.want == "" && err != nil || tt.want != "" && (got != tt.want || !errors.Is(err, ErrUnfit)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if *made != len(nodes) {
				t.Errorf("%d pods were made for %d nodes", *made, len(nodes))
			}
			wantNoProbes(t, k)
		})
	}
}

// TestKernelProbeInterrupted: an interrupt takes the pods away.
func TestKernelProbeInterrupted(t *testing.T) {
	k, _ := probeOf(t, map[string]corev1.PodStatus{"n1": {Phase: corev1.PodPending}})
	k.patience = time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), 2*pollPause)
	defer cancel()
	if err := k.run(ctx, []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	wantNoProbes(t, k)
}

// probeOf is a probe on a cluster whose kubelets have pods end as told. A run that was killed has left it a pod.
func probeOf(t *testing.T, ends map[string]corev1.PodStatus) (k kernelProbe, made *int) {
	t.Helper()
	p, err := profiles.Load("ebpf", profiles.Options{})
	if err != nil {
		t.Fatal(err)
	}
	left := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: SystemNamespace, Name: "left", Labels: map[string]string{"app.kubernetes.io/name": probeName}}}
	left.Status = ending(corev1.PodFailed, "Error", "an error of old")
	client := fake.NewClientset(left)
	made = new(int)
	client.PrependReactor("create", "pods", func(a k8stesting.Action) (bool, k8sruntime.Object, error) {
		pod := a.(k8stesting.CreateAction).GetObject().(*corev1.Pod)
		*made++
		pod.Name, pod.Status = fmt.Sprint(pod.GenerateName, *made), ends[pod.Spec.NodeName]
		if settings := pod.Spec.Containers[0].Command[4]; !strings.Contains(settings, `"kubeProxyReplacement":true`) {
			t.Errorf("the pod is told %s", settings)
		}
		return false, nil, nil
	})
	return kernelProbe{client: client, profile: p, image: "wirelab/agent:1", patience: time.Second}, made
}

func wantNoProbes(t *testing.T, k kernelProbe) {
	t.Helper()
	left, err := probingPods(t.Context(), k.client)
	if err != nil || len(left) > 0 {
		t.Errorf("%d pods are left, %v", len(left), err)
	}
}
