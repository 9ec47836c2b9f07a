package labs

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/labs/demo"
)

// replaceStranded deletes running pods that have no interface any more, so that their controllers make new ones: an agent
// that was uninstalled took the interfaces with it, and Kubernetes does not notice. It returns how many there were. Pods
// without a controller, other than the demo's own, are left to whoever made them. All agents must be ready.
func (l *Lab) replaceStranded(ctx context.Context) (int, error) {
	agents, err := l.agentPods(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	for node, agent := range agents {
		endpoints, err := askAgent[[]api.Endpoint](ctx, l, agent, "endpoint", "list")
		if err != nil {
			return n, fmt.Errorf("list the endpoints of node %s: %w", node, explainKubelet(node, "the agent", err))
		}
		pods, err := l.podsOn(ctx, node)
		if err != nil {
			return n, err
		}
		for _, p := range stranded(pods, endpoints) {
			err := l.Kube.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(p.UID))})
			if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				return n, fmt.Errorf("replace pod %s/%s, which has lost its interface: %w", p.Namespace, p.Name, err)
			}
			n++
		}
	}
	return n, nil
}

// stranded are those of pods that run on the pod network by their status, have no endpoint, and will be made again.
func stranded(pods []corev1.Pod, endpoints []api.Endpoint) []corev1.Pod {
	have := map[string]bool{}
	for _, e := range endpoints {
		have[e.Namespace+"/"+e.Pod] = true
	}
	var out []corev1.Pod
	for _, p := range pods {
		again := metav1.GetControllerOf(&p) != nil || p.Namespace == demo.Namespace && p.Name == demo.Shell
		onNetwork := !p.Spec.HostNetwork && p.Status.Phase == corev1.PodRunning && p.Status.PodIP != "" && p.DeletionTimestamp == nil
		if again && onNetwork && !have[p.Namespace+"/"+p.Name] {
			out = append(out, p)
		}
	}
	return out
}
