package labs

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/internal/kube"
)

// markOfHaste is the annotation that a pod has for a moment, by which its kubelet sees that the pod has changed.
const markOfHaste = "wirelab.dev/look-again"

// hastenEvery is the pause between two looks for pods that kubelets leave lying.
const hastenEvery = time.Second

// hasten has kubelets see at once to pods of kube-system that they would see to after 10 s, until the function that it returns
// is called, which waits for the last. A kubelet takes up a pod that changes, so the pods are changed and changed back.
func (l *Lab) hasten(ctx context.Context) (stop func()) {
	looking, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		for {
			_ = l.lookAgain(looking) // an API server that does not answer may in a second, and lab up tells what it waits for
			select {
			case <-looking.Done():
				return
			case <-time.After(hastenEvery):
			}
		}
	})
	return func() { cancel(); done.Wait() }
}

// lookAgain changes the pods that kubelets leave lying, and changes them back, also when ctx ends meanwhile.
func (l *Lab) lookAgain(ctx context.Context) error {
	list, err := l.Kube.CoreV1().Pods(SystemNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list pods of %s: %w", SystemNamespace, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	defer cancel()
	for i := range list.Items {
		p := &list.Items[i]
		if !liesThere(p) {
			continue
		}
		for _, value := range []*string{new("now"), nil} {
			if err := l.markPod(ctx, p, markOfHaste, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// liesThere tells whether a kubelet has put a pod off, for one of two reasons. CoreDNS, as kubeadm makes it, is probed every 10 s,
// and the first time before it listens; a pod that is not ready is probed anew when it changes
// (pkg/kubelet/prober/prober_manager.go, UpdatePodStatus). And of a kubelet that has just started, pods come before Services, without
// which no container is made (pkg/kubelet/kubelet_pods.go, makeEnvironmentVariables); it tries again 10 s later.
func liesThere(p *corev1.Pod) bool {
	const configError = "CreateContainerConfigError" // pkg/kubelet/kuberuntime
	if p.Labels[dnsKey] == dnsValue && p.Status.Phase == corev1.PodRunning && !kube.IsReady(p) {
		return true
	}
	return slices.ContainsFunc(slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses), func(s corev1.ContainerStatus) bool {
		return s.State.Waiting != nil && s.State.Waiting.Reason == configError
	})
}
