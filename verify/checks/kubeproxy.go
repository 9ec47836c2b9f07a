package checks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/field"
)

func kubeProxyChecks(env *field.Env) []verify.Check {
	return []verify.Check{
		{
			Name: "rules/kube-proxy", Needs: []verify.Part{verify.Nodes}, Modes: []string{verify.ModeKubeProxy},
			Claim: "kube-proxy runs on every node: a pod and its process.",
			Run: look(env, func(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
				return lookForKubeProxy(ctx, env, func(node *field.Node, pods, processes []string) {
					ev.Expect(len(pods) > 0 && len(processes) > 0, node.Name, "a pod and a process of kube-proxy", fmt.Sprintf("its pods %v, its processes %v", pods, processes))
				})
			}),
		},
		{
			Name: "rules/no-kube-proxy", Needs: []verify.Part{verify.Nodes}, Modes: []string{verify.ModeKubeProxyReplacement, verify.ModeEBPF},
			Claim: "No node has a pod or a process of kube-proxy.",
			Run: look(env, func(ctx context.Context, env *field.Env, ev *verify.Evidence) error {
				return lookForKubeProxy(ctx, env, func(node *field.Node, pods, processes []string) {
					if len(pods)+len(processes) == 0 {
						ev.Saw("%s: kube-proxy is neither among its pods nor among its processes", node.Name)
						return
					}
					ev.Wrong(node.Name, "neither a pod nor a process of kube-proxy", fmt.Sprintf("its pods %v, its processes %v", pods, processes))
				})
			}),
		},
	}
}

const (
	kubeProxyName = "kube-proxy"
	// kubeletName is a process that every node has: where it is not found,
	// nothing can be said of others.
	kubeletName = "kubelet"
)

// processScript prints the names of a node's processes, those in its pods
// included. One may end while it is being read.
const processScript = `cat /proc/[0-9]*/comm 2>/dev/null || true`

// lookForKubeProxy hands over what it finds on each node.
func lookForKubeProxy(ctx context.Context, env *field.Env, judge func(node *field.Node, pods, processes []string)) error {
	all, err := env.Kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the pods: %w", err)
	}
	if len(all.Items) == 0 {
		return errors.New("the API server lists no pod at all, so it says nothing of kube-proxy's")
	}
	return verify.Each(env.Nodes, func(node *field.Node) error {
		text, err := field.Output(ctx, node.Peer, "sh", "-c", processScript)
		if err != nil {
			return err
		}
		running := strings.Fields(text)
		if !slices.Contains(running, kubeletName) {
			return fmt.Errorf("%s: among %d processes is no %s, so the list cannot be trusted", node.Name, len(running), kubeletName)
		}
		processes := slices.DeleteFunc(running, func(name string) bool { return !strings.HasPrefix(name, kubeProxyName) })
		judge(node, kubeProxyPods(all.Items, node.Node), processes)
		return nil
	})
}

// kubeProxyPods lists the pods on a node that run kube-proxy, whatever their name.
func kubeProxyPods(all []corev1.Pod, node string) []string {
	var found []string
	for _, pod := range all {
		is := slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool {
			return strings.Contains(c.Image, kubeProxyName) || slices.ContainsFunc(c.Command, func(word string) bool { return strings.Contains(word, kubeProxyName) })
		})
		if is && pod.Spec.NodeName == node {
			found = append(found, pod.Namespace+"/"+pod.Name)
		}
	}
	return found
}
