package labs

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/labs/demo"
)

// markOfHaste is the annotation that a pod has for a moment, by which its kubelet sees that the pod has changed.
const markOfHaste = "wirelab.dev/look-again"

const (
	// hastenEvery is the pause between two looks for pods that kubelets leave lying.
	hastenEvery = time.Second
	// hastenAfter is at how many looks a pod is to have no sandbox before its kubelet is taken to have put it off.
	hastenAfter = 4
)

// hasten has kubelets see at once to the network's pods, the demo's and those of the checks that they would see to after 10 s, until
// the function that it returns is called, which waits for the last. A kubelet takes up a pod that changes, so the pods are changed
// and changed back.
func (l *Lab) hasten(ctx context.Context) (stop func()) {
	looking, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		bare := map[types.UID]int{}
		for {
			_ = l.lookAgain(looking, bare) // an API server that does not answer may in a second, and lab up tells what it waits for
			select {
			case <-looking.Done():
				return
			case <-time.After(hastenEvery):
			}
		}
	})
	return func() { cancel(); done.Wait() }
}

// lookAgain changes the pods that kubelets leave lying, and changes them back, also when ctx ends meanwhile. bare has at how many
// looks a pod had no sandbox.
func (l *Lab) lookAgain(ctx context.Context, bare map[types.UID]int) error {
	var pods []corev1.Pod
	for namespace, selector := range map[string]string{SystemNamespace: "", demo.Namespace: demo.Selector} {
		list, err := l.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return fmt.Errorf("list pods of %s: %w", namespace, err)
		}
		pods = append(pods, list.Items...)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	defer cancel()
	for i := range pods {
		p := &pods[i]
		if isBare(p) {
			bare[p.UID]++
		} else {
			delete(bare, p.UID)
		}
		if bare[p.UID] < hastenAfter && !lacksConfig(p) && !isLateDNS(p) {
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

// isLateDNS tells whether a pod of CoreDNS runs and is not ready. As kubeadm makes it, it is probed every 10 s, and the first time
// before it listens; a pod that is not ready is probed anew when it changes (pkg/kubelet/prober/prober_manager.go, UpdatePodStatus).
func isLateDNS(p *corev1.Pod) bool {
	return p.Labels[dnsKey] == dnsValue && p.Status.Phase == corev1.PodRunning && !kube.IsReady(p)
}

// isBare tells whether a pod has a node and no sandbox, as one has whose kubelet has failed to make its cgroup, or its interface. A
// kubelet tries again after 10 to 15 s (pkg/kubelet/pod_workers.go, completeWork).
func isBare(p *corev1.Pod) bool {
	return p.Spec.NodeName != "" && p.Status.Phase == corev1.PodPending && p.DeletionTimestamp == nil &&
		!slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReadyToStartContainers && c.Status == corev1.ConditionTrue
		})
}

// lacksConfig tells whether a kubelet has put a pod off as it knew too little: of a kubelet that has just started, pods come before
// Services, without which no container is made (pkg/kubelet/kubelet_pods.go, makeEnvironmentVariables); it tries again 10 s later.
func lacksConfig(p *corev1.Pod) bool {
	const configError = "CreateContainerConfigError" // pkg/kubelet/kuberuntime
	return slices.ContainsFunc(slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses), func(s corev1.ContainerStatus) bool {
		return s.State.Waiting != nil && s.State.Waiting.Reason == configError
	})
}
