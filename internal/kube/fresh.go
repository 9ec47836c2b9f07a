package kube

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// StartedSince wants every pod that is called Ready to have been started after t. When nodes were stopped and started
// again, the API server shows what they said before, until each kubelet has looked at its pods.
func (c *Client) StartedSince(t time.Time) Want {
	t = t.Truncate(time.Second) // as precise as the API is
	return Want{Name: "pods after the restart", Look: func(ctx context.Context) (State, error) {
		list, err := c.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return State{}, fmt.Errorf("list pods: %w", err)
		}
		for i := range list.Items {
			p := &list.Items[i]
			if IsReady(p) && startedBefore(p, t) {
				return State{
					Why:   "has not been started again on " + p.Spec.NodeName,
					Blame: Object{"Pod", p.Namespace, p.Name},
				}, nil
			}
		}
		return State{Ready: true}, nil
	}}
}

func startedBefore(p *corev1.Pod, t time.Time) bool {
	for _, s := range p.Status.ContainerStatuses {
		if s.State.Running != nil && s.State.Running.StartedAt.Time.Before(t) {
			return true
		}
	}
	return false
}
