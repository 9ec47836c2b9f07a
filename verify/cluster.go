package verify

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// pollEvery is how often the API server is asked about something awaited.
const pollEvery = 100 * time.Millisecond

// findNodes lists the lab's nodes, sorted by name, without their pods.
func findNodes(ctx context.Context, kube kubernetes.Interface) ([]*Node, error) {
	list, err := kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the nodes: %w", err)
	}
	var nodes []*Node
	for _, object := range list.Items {
		node := &Node{Host: Host{Name: nodePrefix + object.Name, Node: object.Name}}
		for _, address := range object.Status.Addresses {
			ip, err := netip.ParseAddr(address.Address)
			if address.Type == corev1.NodeInternalIP && err == nil && ip.Is4() {
				node.Addr = ip
			}
		}
		if !node.Addr.IsValid() {
			return nil, fmt.Errorf("node %s has no IPv4 address of type InternalIP", object.Name)
		}
		if node.PodCIDR, err = netip.ParsePrefix(object.Spec.PodCIDR); err != nil {
			return nil, fmt.Errorf("node %s: read its pod CIDR: %w", object.Name, err)
		}
		nodes = append(nodes, node)
	}
	if len(nodes) == 0 {
		return nil, errors.New("the lab has no node")
	}
	slices.SortFunc(nodes, func(a, b *Node) int { return strings.Compare(a.Node, b.Node) })
	return nodes, nil
}

// removeNamespace deletes the namespace of this run or of one that was
// interrupted, and waits until it is gone. One that is not there is fine.
func removeNamespace(ctx context.Context, kube kubernetes.Interface) error {
	// Pods first and at once: the namespace waits for them anyway, and its
	// controller would give each its grace period.
	now := int64(0)
	err := kube.CoreV1().Pods(Namespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete the pods of namespace %s: %w", Namespace, err)
	}
	err = kube.CoreV1().Namespaces().Delete(ctx, Namespace, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete namespace %s: %w", Namespace, err)
	}
	err = poll(ctx, func(ctx context.Context) (bool, error) {
		_, err := kube.CoreV1().Namespaces().Get(ctx, Namespace, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, err
	})
	if err != nil {
		return fmt.Errorf("wait for namespace %s to be gone: %w", Namespace, err)
	}
	return nil
}

// createAll makes the namespace, the Services and two pods a node. The client
// pod on the node called only is the backend of Service one.
func createAll(ctx context.Context, cfg Config, nodes []*Node, only string) error {
	core := cfg.Kube.CoreV1()
	if _, err := core.Namespaces().Create(ctx, namespaceObject(), metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create namespace %s: %w", Namespace, err)
	}
	for _, node := range nodes {
		client := podObject(roleClient, node.Node, cfg.Image, nil)
		if node.Node == only {
			client = withHostPort(podObject(roleClient, node.Node, cfg.Image, map[string]string{onlyLabel: "true"}))
		}
		for _, pod := range []*corev1.Pod{client, podObject(roleServer, node.Node, cfg.Image, nil)} {
			if err := createPod(ctx, cfg.Kube, pod); err != nil {
				return err
			}
		}
	}
	for _, service := range serviceObjects() {
		if _, err := core.Services(Namespace).Create(ctx, service, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create Service %s: %w", service.Name, err)
		}
	}
	return nil
}

// createPod copes with a namespace so new that its service account, which
// every pod must name, has not been made yet.
func createPod(ctx context.Context, kube kubernetes.Interface, pod *corev1.Pod) error {
	var last error
	err := poll(ctx, func(ctx context.Context) (bool, error) {
		_, last = kube.CoreV1().Pods(Namespace).Create(ctx, pod, metav1.CreateOptions{})
		if apierrors.IsForbidden(last) && strings.Contains(last.Error(), "serviceaccount") {
			return false, nil
		}
		return true, last
	})
	if err != nil {
		return fmt.Errorf("create pod %s: %w", pod.Name, errors.Join(err, last))
	}
	return nil
}

// errNoImage means that a node lacks the nettool image: no pod can start there.
var errNoImage = errors.New("no such image on the node")

// awaitPod returns the address of a pod of the run once it is ready. When it
// does not become so in time the error says what it waits for. The error wraps
// errNoImage when waiting is in vain.
func awaitPod(ctx context.Context, kube kubernetes.Interface, name string) (netip.Addr, error) {
	var pod *corev1.Pod
	err := poll(ctx, func(ctx context.Context) (bool, error) {
		got, err := kube.CoreV1().Pods(Namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		pod = got
		if lacksImage(pod) {
			return false, errNoImage
		}
		return podReady(pod), nil
	})
	if errors.Is(err, errNoImage) {
		return netip.Addr{}, err
	}
	if err != nil {
		if pod == nil {
			return netip.Addr{}, fmt.Errorf("look for pod %s: %w", name, err)
		}
		return netip.Addr{}, fmt.Errorf("pod %s on node %s is not ready: %s", name, pod.Spec.NodeName, podTrouble(context.WithoutCancel(ctx), kube, pod))
	}
	ip, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("read the address of pod %s: %w", name, err)
	}
	return ip, nil
}

func lacksImage(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.State.Waiting != nil && s.State.Waiting.Reason == "ErrImageNeverPull"
	})
}

func podReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// podTrouble says what the container waits for and what the last event was.
func podTrouble(ctx context.Context, kube kubernetes.Interface, pod *corev1.Pod) string {
	words := []string{"phase " + string(pod.Status.Phase)}
	for _, status := range pod.Status.ContainerStatuses {
		if waiting := status.State.Waiting; waiting != nil {
			words = append(words, strings.TrimSpace(waiting.Reason+" "+waiting.Message))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	events, err := kube.CoreV1().Events(Namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod.Name})
	if err == nil && len(events.Items) > 0 {
		last := slices.MaxFunc(events.Items, func(a, b corev1.Event) int { return a.LastTimestamp.Compare(b.LastTimestamp.Time) })
		words = append(words, last.Reason+": "+last.Message)
	}
	return strings.Join(words, "; ")
}

// poll calls f until it says done or returns an error, or ctx ends.
func poll(ctx context.Context, f wait.ConditionWithContextFunc) error {
	err := wait.PollUntilContextCancel(ctx, pollEvery, true, f)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
