package labs

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/internal/release"
	"wirelab.dev/wirelab/labs/demo"
)

// UninstallResult is what [Uninstall] did.
type UninstallResult struct {
	Context string `json:"context"`
	// Removed is false when the network was not there.
	Removed bool `json:"removed"`
	// Stranded are pods that have lost their network, as namespace/name.
	Stranded []string `json:"stranded,omitempty"`
}

// Uninstall takes demo, network and what that made on the nodes away from a cluster. Nothing there is no error.
func Uninstall(ctx context.Context, kubeconfig, name string, say func(string)) (*UninstallResult, error) {
	r := &UninstallResult{Context: name}
	c, err := clientOf(kubeconfig, name)
	if err != nil {
		return r, err
	}
	unlock, err := lockCluster(c, name)
	if err != nil {
		return r, err
	}
	defer unlock()
	if err := answers(ctx, c); err != nil {
		return r, err
	}
	if err := noLab(ctx, c, "lab down removes it"); err != nil {
		return r, err
	}
	if err := removeProbes(ctx, c); err != nil { // of an install that was killed
		return r, err
	}
	if r.Removed, err = uninstall(ctx, c, say); err != nil || !r.Removed {
		return r, err
	}
	r.Stranded, err = podsWithoutNetwork(ctx, c)
	return r, err
}

// endPatience is for pods to end, which a kubelet gives half a minute where they do not by themselves.
const endPatience = 45 * time.Second

// uninstall removes the demo while its pods can still be taken off the network, then the network, and waits until agents
// have cleaned their nodes, which each does before it ends.
func uninstall(ctx context.Context, c *kube.Client, say func(string)) (bool, error) {
	there, err := release.Exists(c.Config, SystemNamespace, releaseName)
	if err != nil {
		return false, err
	}
	if !there {
		if err := appliedByHand(ctx, c); err != nil {
			return false, err
		}
	}
	say("removing the demo")
	if err := removeDemo(ctx, c); err != nil {
		return there, err
	}
	gone := func(what string, list func(context.Context) ([]corev1.Pod, error)) kube.Want {
		return kube.Want{Name: what, Look: func(ctx context.Context) (kube.State, error) {
			pods, err := list(ctx)
			if err != nil || len(pods) == 0 {
				return kube.State{Ready: err == nil}, err
			}
			return kube.State{Why: "pod is still there", Blame: kube.Object{Kind: "Pod", Namespace: pods[0].Namespace, Name: pods[0].Name}}, nil
		}}
	}
	// Where an agent is broken its node's pods do not end, which is no reason to leave it there.
	mayEnd := func(w kube.Want) error {
		var late *kube.NotReady
		if err := c.WaitFor(ctx, endPatience, waitingFor(say), w); err != nil && !errors.As(err, &late) {
			return err
		}
		return nil
	}
	foreign, err := demo.Foreign(ctx, c)
	if err != nil {
		return false, err
	}
	if len(foreign) == 0 {
		pods := func(ctx context.Context) ([]corev1.Pod, error) { return demo.Pods(ctx, c) }
		if err := mayEnd(gone("the demo's pods to end", pods)); err != nil {
			return false, err
		}
	}
	if !there {
		return false, nil
	}
	labelled := func(label string) func(context.Context) ([]corev1.Pod, error) {
		return func(ctx context.Context) ([]corev1.Pod, error) {
			pods, err := c.CoreV1().Pods(SystemNamespace).List(ctx, metav1.ListOptions{LabelSelector: label})
			if err != nil {
				return nil, fmt.Errorf("list pods: %w", err)
			}
			return pods.Items, nil
		}
	}
	say("removing relay and agents")
	// The relay is on the pods' network, which a kubelet takes a pod off while there is an agent.
	if err := ignoreGone(c.AppsV1().Deployments(SystemNamespace).Delete(ctx, relayName, metav1.DeleteOptions{})); err != nil {
		return true, err
	}
	if err := mayEnd(gone("the relay to end", labelled(relayLabel))); err != nil {
		return true, err
	}
	// Agents ask whether their DaemonSet is gone. Those that have just started are told while their roles are still there, which
	// the chart takes along.
	if err := ignoreGone(c.AppsV1().DaemonSets(SystemNamespace).Delete(ctx, agentName, metav1.DeleteOptions{})); err != nil {
		return true, err
	}
	if err := c.WaitFor(ctx, undoDeadline, waitingFor(say), gone("agents to clean their nodes", labelled(agentLabel))); err != nil {
		return true, err
	}
	say("removing the chart")
	if _, err := release.Remove(ctx, c.Config, SystemNamespace, releaseName); err != nil {
		return true, err
	}
	definitions, err := definitionsGone(c)
	if err != nil {
		return true, err
	}
	return true, c.WaitFor(ctx, undoDeadline, waitingFor(say), definitions)
}

// ignoreGone is err, unless that says that what was to go is not there.
func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// definitionsGone wants the API server not to know wirelab's objects any more, which it removes before their definitions.
func definitionsGone(c *kube.Client) (kube.Want, error) {
	objects, err := crd.NewClient(c.Config)
	if err != nil {
		return kube.Want{}, err
	}
	lists := map[string]func(context.Context) error{
		crd.LabNodes: func(ctx context.Context) error { _, err := objects.Nodes.List(ctx, metav1.ListOptions{}); return err },
		crd.LabIdentities: func(ctx context.Context) error {
			_, err := objects.Identities.List(ctx, metav1.ListOptions{})
			return err
		},
	}
	return kube.Want{Name: "definitions to go", Look: func(ctx context.Context) (kube.State, error) {
		for resource, list := range lists {
			switch err := list(ctx); {
			case apierrors.IsNotFound(err):
			case err != nil:
				return kube.State{}, fmt.Errorf("list %s: %w", resource, err)
			default:
				return kube.State{Why: "is still there", Blame: kube.Object{Kind: "CustomResourceDefinition", Name: resource + "." + crd.GroupVersion.Group}}, nil
			}
		}
		return kube.State{Ready: true}, nil
	}}, nil
}

// appliedByHand refuses a network that no release of the chart brought.
func appliedByHand(ctx context.Context, c kubernetes.Interface) error {
	_, err := c.AppsV1().DaemonSets(SystemNamespace).Get(ctx, agentName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("look for the agents: %w", err)
	}
	return fmt.Errorf("DaemonSet %s/%s is there, but no release of the chart: kubectl delete -f with what was applied removes it, or lab install makes it a release first",
		SystemNamespace, agentName)
}

// removeDemo removes the demo, unless what is there by its names is somebody else's.
func removeDemo(ctx context.Context, c *kube.Client) error {
	foreign, err := demo.Foreign(ctx, c)
	if err != nil || len(foreign) > 0 {
		return err
	}
	return demo.Remove(ctx, c)
}

// podsWithoutNetwork are the pods that run with addresses of their own, which nothing reaches any more.
func podsWithoutNetwork(ctx context.Context, c kubernetes.Interface) ([]string, error) {
	pods, err := c.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	return namesOf(withAddress(pods.Items)), nil
}
