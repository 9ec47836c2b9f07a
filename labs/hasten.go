package labs

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/internal/kube"
)

// markOfProbe is the annotation that a pod has for a moment, by which its kubelet sees that the pod has changed.
const markOfProbe = "wirelab.dev/probe-again"

// hastenEvery is the pause between two probes that are asked for.
const hastenEvery = time.Second

// hastened is a want for pods of kube-system that are probed too seldom to be waited for: CoreDNS, as kubeadm makes it, every 10 s,
// and the first time before it listens. A kubelet probes a pod that is not ready anew when the pod changes
// (pkg/kubelet/prober/prober_manager.go, UpdatePodStatus), so the pods are changed and changed back as long as they are waited for.
func (l *Lab) hastened(w kube.Want, selector string) kube.Want {
	var asked time.Time
	look := w.Look
	w.Look = func(ctx context.Context) (kube.State, error) {
		s, err := look(ctx)
		if err != nil || s.Ready || time.Since(asked) < hastenEvery {
			return s, err
		}
		asked = time.Now()
		return s, l.probeAgain(ctx, selector)
	}
	return w
}

// probeAgain has kubelets probe those pods of kube-system that run and are not ready.
func (l *Lab) probeAgain(ctx context.Context, selector string) error {
	list, err := l.Kube.CoreV1().Pods(SystemNamespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return fmt.Errorf("list pods %s: %w", selector, err)
	}
	for i := range list.Items {
		p := &list.Items[i]
		if p.Status.Phase != corev1.PodRunning || kube.IsReady(p) {
			continue
		}
		for _, value := range []*string{new("now"), nil} {
			if err := l.markPod(ctx, p, markOfProbe, value); err != nil {
				return err
			}
		}
	}
	return nil
}
