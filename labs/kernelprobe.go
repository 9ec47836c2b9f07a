package labs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"wirelab.dev/wirelab/internal/interrupt"
	"wirelab.dev/wirelab/profiles"
)

const (
	probeName  = "wirelab-probe"
	probeLabel = "app.kubernetes.io/name=" + probeName
	// probePatience is for a kubelet to start a pod and for a slow node to load the programs, which takes a fast one a second.
	probePatience = time.Minute
	// terminationLog is where a kubelet looks for a container's last words.
	terminationLog = "/dev/termination-log"
)

// kernelProbe has a pod on each node try whether its kernel runs a profile's programs.
type kernelProbe struct {
	client   kubernetes.Interface
	profile  *profiles.Profile
	image    string // the agent's
	patience time.Duration
}

// run fails with a sentence for each thing that kernels lack. It leaves no pod behind, nor those of a run that was killed.
func (k kernelProbe) run(ctx context.Context, nodes []corev1.Node) (err error) {
	if err := removeProbes(ctx, k.client); err != nil {
		return err
	}
	defer func() {
		clean, cancel := interrupt.Cleanup(ctx, undoDeadline)
		defer cancel()
		err = errors.Join(err, removeProbes(clean, k.client))
	}()
	settings, err := json.Marshal(k.profile.Network.Values())
	if err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	for _, n := range nodes {
		if _, err := k.client.CoreV1().Pods(SystemNamespace).Create(ctx, k.pod(n.Name, string(settings)), metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("have a pod try the kernel of node %s: %w", n.Name, err)
		}
	}
	found, err := k.await(ctx, len(nodes))
	if err != nil {
		return err
	}
	var unfit []string
	for _, what := range slices.Sorted(maps.Keys(found)) {
		slices.Sort(found[what])
		unfit = append(unfit, fmt.Sprintf("node %s %s", firstOf(found[what]), what))
	}
	if len(unfit) > 0 {
		return fmt.Errorf("%w: %s", ErrUnfit, strings.Join(unfit, "; "))
	}
	return nil
}

// pod is what tries a node's kernel: the agent's program, with the rights that it has there, and with nothing of the node's. It is on
// the node's own network, as there is no other yet.
func (k kernelProbe) pod(node, settings string) *corev1.Pod {
	seconds := int64(k.patience.Seconds())
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: SystemNamespace, GenerateName: probeName + "-", Labels: map[string]string{"app.kubernetes.io/name": probeName},
		},
		Spec: corev1.PodSpec{
			NodeName: node, HostNetwork: true, DNSPolicy: corev1.DNSDefault, RestartPolicy: corev1.RestartPolicyNever, ActiveDeadlineSeconds: &seconds,
			PriorityClassName: "system-node-critical", AutomountServiceAccountToken: new(false), EnableServiceLinks: new(false),
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers: []corev1.Container{{
				Name: "probe", Image: k.image, ImagePullPolicy: corev1.PullIfNotPresent,
				Command:                []string{"/usr/bin/wirelab-agent", "probe", "--to", terminationLog, settings},
				Env:                    []corev1.EnvVar{{Name: "WIRELAB_NODENAME", Value: node}},
				TerminationMessagePath: terminationLog, TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
					SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
					// As the agent has them: SYS_ADMIN includes BPF and PERFMON, which older runtimes do not know.
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_ADMIN", "SYS_ADMIN"}},
				},
			}},
		},
	}
}

// await waits until the pods have ended, and returns what was found, with the nodes that it was found on.
func (k kernelProbe) await(ctx context.Context, pods int) (map[string][]string, error) {
	for deadline := time.Now().Add(k.patience); ; {
		list, err := probingPods(ctx, k.client)
		if err != nil {
			return nil, err
		}
		found, ended, late := map[string][]string{}, 0, time.Now().After(deadline)
		for _, p := range list {
			what, over := tried(p)
			switch {
			case over:
				ended++
			case late:
				what = fmt.Sprintf("has not tried its kernel within %s (%s): look at its kubelet", k.patience, what)
			default:
				continue
			}
			if what != "" {
				found[what] = append(found[what], p.Spec.NodeName)
			}
		}
		switch {
		case ended >= pods, late && len(found) > 0:
			return found, nil
		case late:
			return nil, fmt.Errorf("try the nodes' kernels: of %d pods %d are there", pods, len(list))
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// tried is what a pod has found, empty where nothing is amiss, or what it waits for while it is not over.
func tried(p corev1.Pod) (what string, over bool) {
	state := corev1.ContainerState{}
	if len(p.Status.ContainerStatuses) > 0 {
		state = p.Status.ContainerStatuses[0].State
	}
	switch {
	case p.Status.Phase == corev1.PodSucceeded:
		return "", true
	case p.Status.Phase == corev1.PodFailed && state.Terminated != nil && state.Terminated.Message != "":
		first, _, _ := strings.Cut(state.Terminated.Message, "\n")
		return "cannot run what the profile asks for: " + strings.TrimPrefix(first, "wirelab-agent: "), true
	case p.Status.Phase == corev1.PodFailed:
		return "has not run the pod that tries its kernel: " + because(p.Status.Reason, p.Status.Message), true
	case state.Waiting != nil:
		return because(state.Waiting.Reason, state.Waiting.Message), false
	}
	return "pod " + strings.ToLower(string(p.Status.Phase)), false
}

func because(reason, message string) string {
	if message == "" {
		return reason
	}
	return reason + ", " + message
}

func probingPods(ctx context.Context, c kubernetes.Interface) ([]corev1.Pod, error) {
	pods, err := c.CoreV1().Pods(SystemNamespace).List(ctx, metav1.ListOptions{LabelSelector: probeLabel})
	if err != nil {
		return nil, fmt.Errorf("list the pods that try kernels: %w", err)
	}
	return pods.Items, nil
}

// removeProbes removes the pods that try kernels, at once: what they made went with their programs.
func removeProbes(ctx context.Context, c kubernetes.Interface) error {
	pods, err := probingPods(ctx, c)
	if err != nil {
		return err
	}
	var errs []error
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}
	for _, p := range pods {
		if err := ignoreGone(c.CoreV1().Pods(SystemNamespace).Delete(ctx, p.Name, now)); err != nil {
			errs = append(errs, fmt.Errorf("remove pod %s, which tries a kernel: %w", p.Name, err))
		}
	}
	return errors.Join(errs...)
}
