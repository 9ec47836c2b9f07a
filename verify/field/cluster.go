package field

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

	"wirelab.dev/wirelab/verify"
)

// pollEvery is how often the API server is asked about something awaited.
const pollEvery = 100 * time.Millisecond

// findNodes lists the lab's nodes, sorted by name, without their pods.
func findNodes(ctx context.Context, cfg Config) ([]*Node, error) {
	list, err := cfg.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the nodes: %w", err)
	}
	var told map[string]LabNode
	if cfg.LabNodes != nil {
		if told, err = cfg.LabNodes(ctx); err != nil {
			return nil, err
		}
	}
	var nodes []*Node
	for _, object := range list.Items {
		node := &Node{Peer: Peer{Name: NodePrefix + object.Name, Self: object.Name, Node: object.Name}}
		for _, address := range object.Status.Addresses {
			ip, err := netip.ParseAddr(address.Address)
			if address.Type == corev1.NodeInternalIP && err == nil && ip.Is4() {
				node.Addr = ip
			}
		}
		if !node.Addr.IsValid() {
			return nil, fmt.Errorf("node %s has no IPv4 address of type InternalIP", object.Name)
		}
		if node.PodCIDR = told[object.Name].PodCIDR; cfg.LabNodes == nil {
			if node.PodCIDR, err = netip.ParsePrefix(object.Spec.PodCIDR); err != nil {
				return nil, fmt.Errorf("node %s: read its pod CIDR: %w", object.Name, err)
			}
		}
		if !node.PodCIDR.IsValid() {
			return nil, fmt.Errorf("node %s has no pod CIDR", object.Name)
		}
		nodes = append(nodes, node)
	}
	if len(nodes) == 0 {
		return nil, errors.New("the lab has no node")
	}
	slices.SortFunc(nodes, func(a, b *Node) int { return strings.Compare(a.Node, b.Node) })
	return nodes, nil
}

// removeObjects deletes the pods and Services of this run or of one that was
// interrupted, and waits until they are gone: a pod's object goes last, after
// its containers and its network.
func removeObjects(ctx context.Context, cfg Config) error {
	core := cfg.Kube.CoreV1()
	services, err := core.Services(Namespace).List(ctx, metav1.ListOptions{LabelSelector: runLabel})
	if err != nil {
		return fmt.Errorf("list the Services of the checks: %w", err)
	}
	errs := verify.Each(services.Items, func(service corev1.Service) error {
		err := core.Services(Namespace).Delete(ctx, service.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete Service %s: %w", service.Name, err)
		}
		return nil
	})
	pods, err := podsOfRuns(ctx, cfg.Kube)
	if err != nil {
		return errors.Join(errs, err)
	}
	errs = errors.Join(errs, verify.Each(pods, func(pod corev1.Pod) error {
		options := metav1.DeleteOptions{}
		if cfg.Down[pod.Spec.NodeName] != "" {
			options.GracePeriodSeconds = new(int64) // no kubelet is there that would say that it has ended
		}
		err := core.Pods(Namespace).Delete(ctx, pod.Name, options)
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete pod %s: %w", pod.Name, err)
		}
		return nil
	}))
	return errors.Join(errs, awaitNoPods(ctx, cfg.Kube))
}

// podsOfRuns are the pods that runs have made, also those that are ending.
func podsOfRuns(ctx context.Context, kube kubernetes.Interface) ([]corev1.Pod, error) {
	pods, err := kube.CoreV1().Pods(Namespace).List(ctx, metav1.ListOptions{LabelSelector: runLabel})
	if err != nil {
		return nil, fmt.Errorf("list the pods of the checks: %w", err)
	}
	return pods.Items, nil
}

// awaitNoPods waits until no pod of a run is left.
func awaitNoPods(ctx context.Context, kube kubernetes.Interface) error {
	var left []string
	err := Poll(ctx, func(ctx context.Context) (bool, error) {
		pods, err := podsOfRuns(ctx, kube)
		if err != nil {
			return false, err
		}
		left = left[:0]
		for _, pod := range pods {
			left = append(left, pod.Name)
		}
		return len(left) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("wait for pods %s to be gone: %w", strings.Join(left, ", "), err)
	}
	return nil
}

// createAll makes the Services, if the run has any, and two pods on each of nodes, which are sorted by name. The client
// pod on the last of them is the one backend of some Services. It waits for none of them.
func createAll(ctx context.Context, cfg Config, parts []verify.Part, nodes []string) error {
	image, err := cfg.Image(ctx)
	if err != nil {
		return err
	}
	core := cfg.Kube.CoreV1()
	var services []RunService
	if slices.Contains(parts, verify.Services) {
		services = RunServices(cfg)
	}
	// Services first: kube-proxy then learns of a backend when it is ready, and
	// of nothing else at that time.
	err = verify.Each(services, func(service RunService) error {
		if _, err := core.Services(Namespace).Create(ctx, service.object(), metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create Service %s: %w", service.Name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var pods []*corev1.Pod
	for i, node := range nodes {
		client := podObject(RoleClient, node, image, nil)
		if i == len(nodes)-1 {
			client = withHostPort(podObject(RoleClient, node, image, map[string]string{onlyLabel: "true", changingLabel: "true"}))
		}
		pods = append(pods, client, podObject(RoleServer, node, image, nil))
	}
	if leaves(cfg, parts) {
		pods = append(pods, podObject(RoleLeaver, nodes[0], image, map[string]string{changingLabel: "true"}))
	}
	return verify.Each(pods, func(pod *corev1.Pod) error {
		if _, err := core.Pods(Namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create pod %s: %w", pod.Name, err)
		}
		return nil
	})
}

// leaves tells whether there is a pod that a check deletes.
func leaves(cfg Config, parts []verify.Part) bool {
	return slices.Contains(parts, verify.Services) && cfg.KubeProxyReplacement()
}

// noImage means that a node lacks the nettool image: no pod can start there.
type noImage struct{ ref string }

func (n *noImage) Error() string {
	return fmt.Sprintf("the nodes do not have image %s of this version of lab: bring the lab up to date with lab up", n.ref)
}

// awaitPod returns the address of a pod of the run once it is ready. When it
// does not become so in time the error says what it waits for. It is a
// *noImage when waiting is in vain.
func awaitPod(ctx context.Context, kube kubernetes.Interface, name string) (netip.Addr, error) {
	var pod *corev1.Pod
	err := Poll(ctx, func(ctx context.Context) (bool, error) {
		got, err := kube.CoreV1().Pods(Namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		pod = got
		if lacksImage(pod) {
			return false, &noImage{pod.Spec.Containers[0].Image}
		}
		return podReady(pod), nil
	})
	if lacking := (*noImage)(nil); errors.As(err, &lacking) {
		return netip.Addr{}, lacking
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

// Poll calls f until it says done or returns an error, or ctx ends.
func Poll(ctx context.Context, f wait.ConditionWithContextFunc) error {
	err := wait.PollUntilContextCancel(ctx, pollEvery, true, f)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
