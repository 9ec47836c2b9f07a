package demo

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

var cfg = Config{Image: "wirelab/nettool:1", Port: 8080, TargetPort: 80, NodePort: 32000}

func TestApply(t *testing.T) {
	k := fake.NewClientset()
	for range 2 { // the second time changes nothing
		if err := Apply(t.Context(), k, cfg); err != nil {
			t.Fatal(err)
		}
	}
	svc, err := k.CoreV1().Services(Namespace).Get(t.Context(), Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := svc.Spec.Ports[0]
	if svc.Spec.Type != corev1.ServiceTypeNodePort || p.Port != 8080 || p.TargetPort.IntValue() != 80 || p.NodePort != 32000 {
		t.Errorf("service %+v", svc.Spec)
	}
	headless, err := k.CoreV1().Services(Namespace).Get(t.Context(), Headless, metav1.GetOptions{})
	if err != nil || headless.Spec.ClusterIP != corev1.ClusterIPNone {
		t.Errorf("headless service: %+v, %v", headless, err)
	}
	ds, err := k.AppsV1().DaemonSets(Namespace).Get(t.Context(), Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := ds.Spec.Template.Spec.Containers[0]
	if c.Image != cfg.Image || c.Name != Container || !*c.SecurityContext.Privileged || ds.Spec.Template.Labels["app"] != svc.Spec.Selector["app"] {
		t.Errorf("daemonset %+v", ds.Spec)
	}
}

func TestShellPodFollowsTheImage(t *testing.T) {
	k := fake.NewClientset()
	if err := Apply(t.Context(), k, cfg); err != nil {
		t.Fatal(err)
	}
	next := cfg
	next.Image = "wirelab/nettool:2"
	if err := Apply(t.Context(), k, next); err != nil {
		t.Fatal(err)
	}
	p, err := k.CoreV1().Pods(Namespace).Get(t.Context(), Shell, metav1.GetOptions{})
	if err != nil || p.Spec.Containers[0].Image != next.Image {
		t.Errorf("pod %+v, %v: want the new image", p, err)
	}
}

// TestPodsListenWhereTheyAreAsked: the port that the Service and the kubelet ask at is the one that the pods listen on.
func TestPodsListenWhereTheyAreAsked(t *testing.T) {
	for _, port := range []int{80, 8088} {
		moved := cfg
		moved.TargetPort = port
		c := daemonSet(moved).Spec.Template.Spec.Containers[0]
		at := fmt.Sprintf("serve --listen 0.0.0.0:%d", port)
		if got := strings.Join(c.Args, " "); got != at || c.ReadinessProbe.TCPSocket.Port.IntValue() != port || service(moved).Spec.Ports[0].TargetPort.IntValue() != port {
			t.Errorf("for port %d: %q, probed at %s", port, got, c.ReadinessProbe.TCPSocket.Port.String())
		}
	}
}

func TestRemove(t *testing.T) {
	k := fake.NewClientset()
	if err := Apply(t.Context(), k, cfg); err != nil {
		t.Fatal(err)
	}
	for range 2 { // nothing there is no error
		if err := Remove(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	for what, err := range map[string]error{
		"daemonset": second(k.AppsV1().DaemonSets(Namespace).Get(t.Context(), Name, metav1.GetOptions{})),
		"service":   second(k.CoreV1().Services(Namespace).Get(t.Context(), Name, metav1.GetOptions{})),
		"headless":  second(k.CoreV1().Services(Namespace).Get(t.Context(), Headless, metav1.GetOptions{})),
		"pod":       second(k.CoreV1().Pods(Namespace).Get(t.Context(), Shell, metav1.GetOptions{})),
	} {
		if !apierrors.IsNotFound(err) {
			t.Errorf("%s: error = %v, want not found", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
