package kube

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// HeardSince wants a node's kubelet to have reported after t. Of a node that was stopped or paused the API server goes on
// saying what it said before, which includes that it is Ready.
func (c *Client) HeardSince(t time.Time, node string) Want {
	return Want{Name: "node " + node + " after the restart", Look: func(ctx context.Context) (State, error) {
		lease, err := c.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, node, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return State{}, fmt.Errorf("read the lease of node %s: %w", node, err)
		}
		if err == nil && lease.Spec.RenewTime != nil && lease.Spec.RenewTime.After(t) {
			return State{Ready: true}, nil
		}
		return State{Why: "has not reported since it was started", Blame: Object{Kind: "Node", Name: node}}, nil
	}}
}

// Leads wants one of Kubernetes' controllers to renew its lease, which has its name. How late it is follows from the lease of
// the system or of a node that was renewed last, so that this machine's clock has no part in it. Where there is no such lease,
// nobody has to renew it.
func (c *Client) Leads(name string) Want {
	return Want{Name: name, Look: func(ctx context.Context) (State, error) {
		all, err := c.CoordinationV1().Leases("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return State{}, fmt.Errorf("list leases: %w", err)
		}
		var last, renewed time.Time
		var late time.Duration
		for _, l := range all.Items {
			if l.Spec.RenewTime == nil || l.Namespace != metav1.NamespaceSystem && l.Namespace != corev1.NamespaceNodeLease {
				continue
			}
			if l.Spec.RenewTime.After(last) {
				last = l.Spec.RenewTime.Time
			}
			if l.Namespace == metav1.NamespaceSystem && l.Name == name && l.Spec.LeaseDurationSeconds != nil {
				renewed, late = l.Spec.RenewTime.Time, time.Duration(*l.Spec.LeaseDurationSeconds)*time.Second
			}
		}
		if since := last.Sub(renewed); !renewed.IsZero() && since > late {
			return State{Why: "has not renewed its lease for " + since.Round(time.Second).String()}, nil
		}
		return State{Ready: true}, nil
	}}
}

// StartedSince wants every pod of the given nodes that is called Ready to have been started after t. When nodes were
// stopped and started again, the API server shows what they said before, until each kubelet has looked at its pods.
func (c *Client) StartedSince(t time.Time, nodes ...string) Want {
	t = t.Truncate(time.Second) // as precise as the API is
	return Want{Name: "pods after the restart", Look: func(ctx context.Context) (State, error) {
		list, err := c.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return State{}, fmt.Errorf("list pods: %w", err)
		}
		for i := range list.Items {
			p := &list.Items[i]
			if slices.Contains(nodes, p.Spec.NodeName) && IsReady(p) && startedBefore(p, t) {
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
	return slices.ContainsFunc(p.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.State.Running != nil && s.State.Running.StartedAt.Time.Before(t)
	})
}
