// Package demo is the workload a lab starts with: a web server on every node that says who answered and who asked, a
// Service in front of it, and a pod to look around from.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// Names of what the demo is made of.
const (
	Namespace = metav1.NamespaceDefault
	Name      = "demo"                                 // DaemonSet and Service
	Headless  = "demo-headless"                        // Service without an address
	Shell     = "cni"                                  // the pod to look around from
	Selector  = "app in (" + Name + ", " + Shell + ")" // of all its pods
	Container = "nettool"

	manager = "wirelab-lab" // who the API server says set the fields
)

// Config is what a profile decides about the demo.
type Config struct {
	Image                      string
	Port, TargetPort, NodePort int
}

// Apply makes the cluster's demo what cfg says. Applying the same again changes nothing.
func Apply(ctx context.Context, c kubernetes.Interface, cfg Config) error {
	if err := replaceChangedPod(ctx, c, cfg); err != nil {
		return err
	}
	ds, svc, headless, pod := daemonSet(cfg), service(cfg), headlessService(cfg), shellPod(cfg)
	force := true
	opts := metav1.PatchOptions{FieldManager: manager, Force: &force}
	for _, o := range []struct {
		kind, name string
		obj        runtime.Object
		patch      func(data []byte) error
	}{
		{"service", Name, svc, func(b []byte) error {
			_, err := c.CoreV1().Services(Namespace).Patch(ctx, Name, types.ApplyPatchType, b, opts)
			return err
		}},
		{"service", Headless, headless, func(b []byte) error {
			_, err := c.CoreV1().Services(Namespace).Patch(ctx, Headless, types.ApplyPatchType, b, opts)
			return err
		}},
		{"daemonset", Name, ds, func(b []byte) error {
			_, err := c.AppsV1().DaemonSets(Namespace).Patch(ctx, Name, types.ApplyPatchType, b, opts)
			return err
		}},
		{"pod", Shell, pod, func(b []byte) error {
			_, err := c.CoreV1().Pods(Namespace).Patch(ctx, Shell, types.ApplyPatchType, b, opts)
			return err
		}},
	} {
		data, err := json.Marshal(o.obj)
		if err != nil {
			return fmt.Errorf("write %s %s/%s: %w", o.kind, Namespace, o.name, err)
		}
		if err := o.patch(data); err != nil {
			return fmt.Errorf("apply %s %s/%s: %w", o.kind, Namespace, o.name, err)
		}
	}
	return nil
}

// replaceChangedPod removes the shell pod when it runs another image: a pod, unlike a DaemonSet, is not rolled over.
func replaceChangedPod(ctx context.Context, c kubernetes.Interface, cfg Config) error {
	pods := c.CoreV1().Pods(Namespace)
	p, err := pods.Get(ctx, Shell, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("get pod %s/%s: %w", Namespace, Shell, err)
	}
	ended := p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded
	// One that is on its way out is hurried on: its name must be free.
	if p.DeletionTimestamp == nil && !ended && len(p.Spec.Containers) > 0 && p.Spec.Containers[0].Image == cfg.Image {
		return nil
	}
	now := int64(0)
	err = pods.Delete(ctx, Shell, metav1.DeleteOptions{GracePeriodSeconds: &now})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete pod %s/%s: %w", Namespace, Shell, err)
	}
	return nil
}

// Foreign are the objects of the demo's names that Apply has not made, as "daemonset default/demo".
func Foreign(ctx context.Context, c kubernetes.Interface) ([]string, error) {
	var out []string
	for _, o := range []struct {
		kind, name string
		get        func(name string) (metav1.Object, error)
	}{
		{"daemonset", Name, func(n string) (metav1.Object, error) {
			return c.AppsV1().DaemonSets(Namespace).Get(ctx, n, metav1.GetOptions{})
		}},
		{"service", Name, func(n string) (metav1.Object, error) {
			return c.CoreV1().Services(Namespace).Get(ctx, n, metav1.GetOptions{})
		}},
		{"service", Headless, func(n string) (metav1.Object, error) {
			return c.CoreV1().Services(Namespace).Get(ctx, n, metav1.GetOptions{})
		}},
		{"pod", Shell, func(n string) (metav1.Object, error) {
			return c.CoreV1().Pods(Namespace).Get(ctx, n, metav1.GetOptions{})
		}},
	} {
		obj, err := o.get(o.name)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("get %s %s/%s: %w", o.kind, Namespace, o.name, err)
		}
		ours := func(f metav1.ManagedFieldsEntry) bool { return f.Manager == manager }
		if !slices.ContainsFunc(obj.GetManagedFields(), ours) {
			out = append(out, fmt.Sprintf("%s %s/%s", o.kind, Namespace, o.name))
		}
	}
	return out, nil
}

// Pods are the demo's pods, also those that are ending.
func Pods(ctx context.Context, c kubernetes.Interface) ([]corev1.Pod, error) {
	all, err := c.CoreV1().Pods(Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list pods of the demo: %w", err)
	}
	return slices.DeleteFunc(all.Items, func(p corev1.Pod) bool {
		owner := metav1.GetControllerOf(&p)
		return p.Name != Shell && (owner == nil || owner.Kind != "DaemonSet" || owner.Name != Name)
	}), nil
}

// Remove removes everything Apply makes. Nothing there is no error.
func Remove(ctx context.Context, c kubernetes.Interface) error {
	var errs []error
	for _, err := range []error{
		c.AppsV1().DaemonSets(Namespace).Delete(ctx, Name, metav1.DeleteOptions{}),
		c.CoreV1().Services(Namespace).Delete(ctx, Name, metav1.DeleteOptions{}),
		c.CoreV1().Services(Namespace).Delete(ctx, Headless, metav1.DeleteOptions{}),
		c.CoreV1().Pods(Namespace).Delete(ctx, Shell, metav1.DeleteOptions{}),
	} {
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("remove demo: %w", err))
		}
	}
	return errors.Join(errs...)
}
