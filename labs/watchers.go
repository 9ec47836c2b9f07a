package labs

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/kube"
)

// askAgain is how long those who watch an API server that was away may take to watch it again, from when it is ready. client-go,
// which they do it by, asks again after 30 to 60 s, and once more where a server that has just begun refuses.
const askAgain = 75 * time.Second

// watchersBack wants the pods that watch the API server to have heard from it since it was away. They cannot be asked whether
// they have, so they are given the time that it may take.
func (l *Lab) watchersBack() kube.Want {
	return kube.Want{Name: "DNS and agents to hear from the API server", Look: func(ctx context.Context) (kube.State, error) {
		pods, err := l.Kube.CoreV1().Pods(SystemNamespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return kube.State{}, fmt.Errorf("list the pods of namespace %s: %w", SystemNamespace, err)
		}
		current := slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { // what is said of those on a node that is down is old
			return slices.ContainsFunc(l.Nodes, func(n cluster.Node) bool { return n.Name == p.Spec.NodeName && n.Down() != "" })
		})
		return heardAgain(current, time.Now()), nil
	}}
}

// heardAgain tells whether pods have heard from the API server, which is one of them, by now. What it has made since it was
// started has not been without it, and what has started since it is ready has heard from it. What is older asked at intervals
// that double while it was away, so it asks again before twice the time has passed that it may have been without, and within askAgain.
func heardAgain(pods []corev1.Pod, now time.Time) kube.State {
	var begun, back time.Time
	var starting *corev1.Pod
	for i := range pods {
		p := &pods[i]
		if p.Labels["component"] != "kube-apiserver" {
			continue
		}
		since, started := readySince(p), startedAt(p)
		if since.IsZero() {
			starting = p
		}
		if started.IsZero() {
			started = now // it answers, and its kubelet has not yet said that it runs again
		}
		begun, back = later(begun, started), later(back, since)
	}
	for i := range pods {
		p := &pods[i]
		started := startedAt(p)
		if p.Annotations[corev1.MirrorPodAnnotationKey] != "" || started.IsZero() || p.CreationTimestamp.After(begun) {
			continue // the control plane, too, which ends when it loses the API server
		}
		if starting != nil {
			return kube.State{Why: "is not ready", Blame: kube.Object{Kind: "Pod", Namespace: starting.Namespace, Name: starting.Name}}
		}
		if !started.Before(back) {
			continue
		}
		if wait := min(2*back.Sub(started), askAgain); now.Sub(back) < wait {
			return kube.State{
				Why:   fmt.Sprintf("may take until %s to ask the API server again, which is ready since %s", back.Add(wait).Format(time.TimeOnly), back.Format(time.TimeOnly)),
				Blame: kube.Object{Kind: "Pod", Namespace: p.Namespace, Name: p.Name},
			}
		}
	}
	return kube.State{Ready: true}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// readySince is when a pod became ready; zero where it is not.
func readySince(p *corev1.Pod) time.Time {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// startedAt is when the last of a pod's containers was started; zero where none runs.
func startedAt(p *corev1.Pod) (last time.Time) {
	for _, s := range p.Status.ContainerStatuses {
		if s.State.Running != nil {
			last = later(last, s.State.Running.StartedAt.Time)
		}
	}
	return last
}
