package kube

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
)

func cluster(objects ...runtime.Object) *Client {
	return &Client{Interface: fake.NewClientset(objects...)}
}

func state(t *testing.T, w Want) State {
	t.Helper()
	s, err := w.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func readyNode(name string, status corev1.ConditionStatus) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status, Message: "no network"}},
	}}
}

func TestNodeReady(t *testing.T) {
	c := cluster(readyNode("a", corev1.ConditionTrue), readyNode("b", corev1.ConditionFalse))
	if s := state(t, c.NodeReady("a")); !s.Ready {
		t.Errorf("a: %+v", s)
	}
	for name, why := range map[string]string{"b": "no network", "c": "not joined"} {
		s := state(t, c.NodeReady(name))
		if s.Ready || !strings.Contains(s.Why, why) || s.Blame.Name != name {
			t.Errorf("%s: %+v, want %q", name, s, why)
		}
	}
}

func daemonSet(s appsv1.DaemonSetStatus) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "ds", Generation: 2},
		Spec:       appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "ds"}}},
		Status:     s,
	}
}

func TestDaemonSetReady(t *testing.T) {
	full := appsv1.DaemonSetStatus{ObservedGeneration: 2, DesiredNumberScheduled: 3, UpdatedNumberScheduled: 3, NumberReady: 3}
	with := func(change func(*appsv1.DaemonSetStatus)) appsv1.DaemonSetStatus { s := full; change(&s); return s }
	tests := map[string]struct {
		status appsv1.DaemonSetStatus
		nodes  int
		why    string // empty: ready
	}{
		"all":           {full, 3, ""},
		"any number":    {full, 0, ""},
		"a node short":  {full, 4, "3 of 4"},
		"old version":   {with(func(s *appsv1.DaemonSetStatus) { s.UpdatedNumberScheduled = 1 }), 3, "up to date on 1"},
		"one not ready": {with(func(s *appsv1.DaemonSetStatus) { s.NumberReady = 2 }), 3, "ready on 2"},
		"unseen change": {with(func(s *appsv1.DaemonSetStatus) { s.ObservedGeneration = 1 }), 3, "not been seen"},
		"nowhere yet":   {appsv1.DaemonSetStatus{ObservedGeneration: 2}, 0, "not been seen"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := state(t, cluster(daemonSet(tt.status)).DaemonSetReady("ds", "ns", "ds", tt.nodes))
			if s.Ready != (tt.why == "") || !strings.Contains(s.Why, tt.why) {
				t.Errorf("%+v, want %q", s, tt.why)
			}
		})
	}
	if s := state(t, cluster().DaemonSetReady("ds", "ns", "ds", 1)); s.Ready {
		t.Error("a DaemonSet that does not exist is ready")
	}
}

func TestDeploymentAvailable(t *testing.T) {
	deployment := func(change func(*appsv1.Deployment)) *Client {
		d := &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "d", Generation: 2},
			Spec:       appsv1.DeploymentSpec{Replicas: new(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "ds"}}},
			Status: appsv1.DeploymentStatus{
				ObservedGeneration: 2, UpdatedReplicas: 2, AvailableReplicas: 1,
				Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue}},
			},
		}
		change(d)
		return cluster(d)
	}
	for name, tt := range map[string]struct {
		change           func(*appsv1.Deployment)
		available, ready string // why not; empty: it is
	}{
		"one of two":     {func(*appsv1.Deployment) {}, "", "has 1 of 2 replicas"},
		"both":           {func(d *appsv1.Deployment) { d.Status.AvailableReplicas = 2 }, "", ""},
		"another is old": {func(d *appsv1.Deployment) { d.Status.AvailableReplicas, d.Status.UpdatedReplicas = 2, 1 }, "", "has 1 of 2 replicas up to date"},
		"none": {func(d *appsv1.Deployment) {
			d.Status.AvailableReplicas, d.Status.Conditions[0].Status = 0, corev1.ConditionFalse
		}, "has 0 of 2 replicas", "has 0 of 2 replicas"},
		"not seen": {func(d *appsv1.Deployment) { d.Generation = 3 }, "not been seen", "not been seen"},
	} {
		for which, want := range map[*string]func(*Client) Want{
			&tt.available: func(c *Client) Want { return c.DeploymentAvailable("d", "ns", "d") },
			&tt.ready:     func(c *Client) Want { return c.DeploymentReady("d", "ns", "d") },
		} {
			s := state(t, want(deployment(tt.change)))
			if s.Ready != (*which == "") || !strings.Contains(s.Why, *which) {
				t.Errorf("%s: %+v, want %q", name, s, *which)
			}
		}
	}
}

func crashing() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "ds-1", Labels: map[string]string{"app": "ds"}},
		Spec:       corev1.PodSpec{NodeName: "a", Containers: []corev1.Container{{Name: "main"}}},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
			Name: "main", RestartCount: 3,
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off"}},
		}}},
	}
}

func TestHasEndpoints(t *testing.T) {
	pod := func(name, app, ip string, ready corev1.ConditionStatus) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{"app": app}},
			Status:     corev1.PodStatus{PodIP: ip, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
		}
	}
	slice := func(addresses ...string) *discoveryv1.EndpointSlice {
		s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}}}
		for _, a := range addresses {
			ready := a != "10.0.0.2"
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
		}
		return s
	}
	for name, test := range map[string]struct {
		slice *discoveryv1.EndpointSlice
		why   string
	}{
		"all":            {slice("10.0.0.1"), ""},
		"more":           {slice("10.0.0.1", "10.0.0.2"), ""},
		"none":           {slice(), "pod a is ready and not among the endpoints yet"},
		"not ready ones": {slice("10.0.0.2"), "pod a is ready"},
	} {
		t.Run(name, func(t *testing.T) {
			c := cluster(
				&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}}},
				pod("a", "web", "10.0.0.1", corev1.ConditionTrue), pod("b", "web", "10.0.0.2", corev1.ConditionFalse),
				pod("c", "other", "10.0.0.3", corev1.ConditionTrue), test.slice,
			)
			if s := state(t, c.HasEndpoints("web", "ns", "web")); s.Ready != (test.why == "") || !strings.Contains(s.Why, test.why) {
				t.Errorf("%+v, want %q", s, test.why)
			}
		})
	}
	if s := state(t, cluster().HasEndpoints("web", "ns", "web")); s.Ready || s.Why != "does not exist" {
		t.Errorf("of no Service: %+v", s)
	}
}

func TestWaitNamesTheFailingPod(t *testing.T) {
	event := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: "ns", Name: "e"},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: "ds-1"},
		Type:           "Warning", Reason: "BackOff", Message: "restarting failed container",
	}
	c := cluster(daemonSet(appsv1.DaemonSetStatus{ObservedGeneration: 2, DesiredNumberScheduled: 1, UpdatedNumberScheduled: 1}), crashing(), event)
	var told [][]string
	err := c.WaitFor(t.Context(), 300*time.Millisecond, func(m []string) { told = append(told, m) }, c.DaemonSetReady("agent", "ns", "ds", 1))
	var nr *NotReady
	if !errors.As(err, &nr) {
		t.Fatalf("error = %v, want *NotReady", err)
	}
	for _, part := range []string{"agent", "pod ns/ds-1", "on a", "CrashLoopBackOff", "ready on 0 of 1"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	// The fake API server's log of any container is "fake logs".
	for _, part := range []string{"BackOff: restarting failed container", "fake logs"} {
		if !strings.Contains(nr.Detail(), part) {
			t.Errorf("detail does not say %q:\n%s", part, nr.Detail())
		}
	}
	if len(told) != 1 || told[0][0] != "agent" {
		t.Errorf("told %q, want what is missing once", told)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := cluster()
	err := c.WaitFor(ctx, time.Minute, func([]string) { cancel() }, c.NodeReady("a"))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled", err)
	}
}

func TestWaitComesTrue(t *testing.T) {
	c := cluster(readyNode("a", corev1.ConditionFalse))
	tell := func([]string) {
		_, err := c.CoreV1().Nodes().UpdateStatus(t.Context(), readyNode("a", corev1.ConditionTrue), metav1.UpdateOptions{})
		if err != nil {
			t.Error(err)
		}
	}
	if err := c.WaitFor(t.Context(), time.Minute, tell, c.NodeReady("a")); err != nil {
		t.Error(err)
	}
}

func TestWaitKeepsTheReasonItCouldNotLook(t *testing.T) {
	gone := errors.New("connection refused")
	w := Want{Name: "x", Look: func(context.Context) (State, error) { return State{}, gone }}
	if err := cluster().WaitFor(t.Context(), 50*time.Millisecond, nil, w); !errors.Is(err, gone) {
		t.Errorf("error = %v, want one that wraps %v", err, gone)
	}
}

// TestWaitLooksAtAll: what has come true is not looked at again before all else has, and must be true then.
func TestWaitLooksAtAll(t *testing.T) {
	want := func(name string, ready func(look int) bool) (Want, *int) {
		looks := new(int)
		return Want{Name: name, Look: func(context.Context) (State, error) {
			*looks++
			return State{Ready: ready(*looks)}, nil
		}}, looks
	}
	// In turn: true; not, when all are looked at for the first time; true by itself; true with all.
	flaps, looksAtFlaps := want("flaps", func(look int) bool { return look != 2 })
	late, looksAtLate := want("late", func(look int) bool { return look >= 4 })
	if err := cluster().WaitFor(t.Context(), time.Minute, nil, flaps, late); err != nil {
		t.Error(err)
	}
	if *looksAtFlaps != 4 || *looksAtLate != 6 {
		t.Errorf("%d and %d looks, want 4 and 6", *looksAtFlaps, *looksAtLate)
	}
}
