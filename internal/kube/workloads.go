package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// NodeReady wants a node of that name to be Ready.
func (c *Client) NodeReady(name string) Want {
	o := Object{Kind: "Node", Name: name}
	return wantOf(o.String(), o, c.CoreV1().Nodes().Get, func(_ context.Context, n *corev1.Node) (State, error) {
		for _, cond := range n.Status.Conditions {
			if cond.Type != corev1.NodeReady {
				continue
			}
			if cond.Status == corev1.ConditionTrue {
				return State{Ready: true}, nil
			}
			return State{Why: "is not Ready: " + oneLine(cond.Message), Blame: o}, nil
		}
		return State{Why: "has not reported yet", Blame: o}, nil
	})
}

// getter gets an object of one kind by its name.
type getter[T any] func(context.Context, string, metav1.GetOptions) (T, error)

// wantOf wants something of an object, of which look says how it stands.
func wantOf[T any](want string, o Object, get getter[T], look func(context.Context, T) (State, error)) Want {
	absent := "does not exist"
	if o.Kind == "Node" {
		absent = "has not joined the cluster"
	}
	return Want{Name: want, Look: func(ctx context.Context) (State, error) {
		is, err := get(ctx, o.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return State{Why: absent, Blame: o}, nil
		}
		if err != nil {
			return State{}, fmt.Errorf("get %s: %w", o, err)
		}
		return look(ctx, is)
	}}
}

// DaemonSetReady wants the current version of a DaemonSet ready on exactly nodes nodes, or with nodes 0 on every node
// it is to run on and at least one.
func (c *Client) DaemonSetReady(want, namespace, name string, nodes int) Want {
	o := Object{"DaemonSet", namespace, name}
	get := c.AppsV1().DaemonSets(namespace).Get
	return wantOf(want, o, get, func(ctx context.Context, d *appsv1.DaemonSet) (State, error) {
		return c.blamePod(ctx, o, d.Spec.Selector, daemonSetMissing(d, nodes))
	})
}

func daemonSetMissing(d *appsv1.DaemonSet, nodes int) string {
	s := d.Status
	want := s.DesiredNumberScheduled
	if nodes > 0 {
		want = int32(nodes) //nolint:gosec // a lab has a handful of nodes
	}
	switch {
	case s.ObservedGeneration < d.Generation || want == 0:
		return "has not been seen by its controller yet"
	case s.DesiredNumberScheduled != want:
		return fmt.Sprintf("is to run on %d of %d nodes", s.DesiredNumberScheduled, want)
	case s.UpdatedNumberScheduled < want:
		return fmt.Sprintf("is up to date on %d of %d nodes", s.UpdatedNumberScheduled, want)
	case s.NumberReady < want:
		return fmt.Sprintf("is ready on %d of %d nodes", s.NumberReady, want)
	}
	return ""
}

// DeploymentReady wants all replicas of a Deployment's current version available.
func (c *Client) DeploymentReady(want, namespace, name string) Want {
	return c.deployment(want, namespace, name, func(d *appsv1.Deployment) string {
		switch replicas := replicasOf(d); {
		case d.Status.UpdatedReplicas < replicas:
			return fmt.Sprintf("has %d of %d replicas up to date", d.Status.UpdatedReplicas, replicas)
		case d.Status.AvailableReplicas < replicas:
			return available(d)
		}
		return ""
	})
}

// DeploymentAvailable wants as many replicas of a Deployment available as its strategy keeps while it changes: the condition
// Available.
func (c *Client) DeploymentAvailable(want, namespace, name string) Want {
	return c.deployment(want, namespace, name, func(d *appsv1.Deployment) string {
		if slices.ContainsFunc(d.Status.Conditions, func(c appsv1.DeploymentCondition) bool {
			return c.Type == appsv1.DeploymentAvailable && c.Status == corev1.ConditionTrue
		}) {
			return ""
		}
		return available(d)
	})
}

func available(d *appsv1.Deployment) string {
	return fmt.Sprintf("has %d of %d replicas available", d.Status.AvailableReplicas, replicasOf(d))
}

// deployment wants missing to say nothing of a Deployment whose controller has seen it as it is.
func (c *Client) deployment(want, namespace, name string, missing func(*appsv1.Deployment) string) Want {
	o := Object{"Deployment", namespace, name}
	get := c.AppsV1().Deployments(namespace).Get
	return wantOf(want, o, get, func(ctx context.Context, d *appsv1.Deployment) (State, error) {
		why := "has not been seen by its controller yet"
		if d.Status.ObservedGeneration >= d.Generation {
			why = missing(d)
		}
		return c.blamePod(ctx, o, d.Spec.Selector, why)
	})
}

// replicasOf is how many replicas a Deployment is to have.
func replicasOf(d *appsv1.Deployment) int32 {
	if d.Spec.Replicas == nil {
		return 1
	}
	return *d.Spec.Replicas
}

// PodReady wants a pod to be Ready.
func (c *Client) PodReady(want, namespace, name string) Want {
	o := Object{"Pod", namespace, name}
	get := c.CoreV1().Pods(namespace).Get
	return wantOf(want, o, get, func(_ context.Context, p *corev1.Pod) (State, error) {
		if IsReady(p) {
			return State{Ready: true}, nil
		}
		return State{Why: podMissing(p), Blame: o}, nil
	})
}

// HasEndpoints wants a Service to have every ready pod that it selects among its ready endpoints: they are found out by a controller,
// after the pod is ready.
func (c *Client) HasEndpoints(want, namespace, service string) Want {
	o := Object{"Service", namespace, service}
	get := c.CoreV1().Services(namespace).Get
	return wantOf(want, o, get, func(ctx context.Context, s *corev1.Service) (State, error) {
		pods, err := c.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: labels.FormatLabels(s.Spec.Selector)})
		if err != nil {
			return State{}, fmt.Errorf("list pods of %s: %w", o, err)
		}
		found, err := c.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
		if err != nil {
			return State{}, fmt.Errorf("list endpoints of %s: %w", o, err)
		}
		var ready []string
		for i := range found.Items {
			for _, e := range found.Items[i].Endpoints {
				if IsReadyEndpoint(&e) {
					ready = append(ready, e.Addresses...)
				}
			}
		}
		for i := range pods.Items {
			if p := &pods.Items[i]; IsReady(p) && !slices.Contains(ready, p.Status.PodIP) {
				return State{Why: fmt.Sprintf("pod %s is ready and not among the endpoints yet", p.Name), Blame: o}, nil
			}
		}
		return State{Ready: true}, nil
	})
}

// blamePod finds the first pod of a workload that is not ready; the workload itself is to blame when there is none. An
// empty why says that nothing is missing.
func (c *Client) blamePod(ctx context.Context, o Object, sel *metav1.LabelSelector, why string) (State, error) {
	if why == "" {
		return State{Ready: true}, nil
	}
	l, err := c.CoreV1().Pods(o.Namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(sel)})
	if err != nil {
		return State{}, fmt.Errorf("list pods of %s: %w", o, err)
	}
	for i := range l.Items {
		p := &l.Items[i]
		if !IsReady(p) {
			where := ""
			if p.Spec.NodeName != "" {
				where = "on " + p.Spec.NodeName + " "
			}
			return State{
				Why:   fmt.Sprintf("%s%s (%s %s %s)", where, podMissing(p), strings.ToLower(o.Kind), o.Name, why),
				Blame: Object{"Pod", p.Namespace, p.Name},
			}, nil
		}
	}
	return State{Why: why, Blame: o}, nil
}

// IsReady tells whether a pod is Ready and not on its way out.
func IsReady(p *corev1.Pod) bool {
	if p.DeletionTimestamp != nil {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// IsReadyEndpoint tells whether an endpoint takes connections: one of which that is not known does (KEP-752).
func IsReadyEndpoint(e *discoveryv1.Endpoint) bool {
	return e.Conditions.Ready == nil || *e.Conditions.Ready
}

// podMissing says in a few words what keeps a pod from being ready.
func podMissing(p *corev1.Pod) string {
	if p.DeletionTimestamp != nil {
		return "is being deleted"
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return "cannot be scheduled: " + oneLine(c.Message)
		}
	}
	for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		switch {
		case s.State.Waiting != nil && s.State.Waiting.Reason != "PodInitializing" && s.State.Waiting.Reason != "ContainerCreating":
			return fmt.Sprintf("has container %s waiting: %s %s", s.Name, s.State.Waiting.Reason, oneLine(s.State.Waiting.Message))
		case s.State.Terminated != nil && s.State.Terminated.ExitCode != 0:
			return fmt.Sprintf("has container %s ended with status %d (%s)", s.Name, s.State.Terminated.ExitCode, s.State.Terminated.Reason)
		}
	}
	for _, s := range p.Status.ContainerStatuses {
		if !s.Ready && s.State.Running != nil {
			return fmt.Sprintf("has container %s running and not ready", s.Name)
		}
	}
	if p.Status.Phase == corev1.PodPending {
		return "is still being started"
	}
	return "is not ready (" + string(p.Status.Phase) + ")"
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 200 {
		s = s[:200] + "..."
	}
	return s
}
