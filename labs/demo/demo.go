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
	for _, p := range parts(c, cfg) {
		if err := p.apply(ctx); err != nil {
			return err
		}
	}
	return nil
}

// part is one object of the demo.
type part struct {
	what   string // as "daemonset default/demo"
	get    func(context.Context) (metav1.Object, error)
	apply  func(context.Context) error
	remove func(context.Context) error
}

func parts(c kubernetes.Interface, cfg Config) []part {
	services := c.CoreV1().Services(Namespace)
	return []part{
		partOf("service", services, service(cfg)),
		partOf("service", services, headlessService(cfg)),
		partOf("daemonset", c.AppsV1().DaemonSets(Namespace), daemonSet(cfg)),
		partOf("pod", c.CoreV1().Pods(Namespace), shellPod(cfg)),
	}
}

// clientOf is what typed clients have in common.
type clientOf[T metav1.Object] interface {
	Get(context.Context, string, metav1.GetOptions) (T, error)
	Patch(context.Context, string, types.PatchType, []byte, metav1.PatchOptions, ...string) (T, error)
	Delete(context.Context, string, metav1.DeleteOptions) error
}

func partOf[T metav1.Object](kind string, c clientOf[T], object T) part {
	name := object.GetName()
	what := fmt.Sprintf("%s %s/%s", kind, Namespace, name)
	return part{
		what: what,
		get:  func(ctx context.Context) (metav1.Object, error) { return c.Get(ctx, name, metav1.GetOptions{}) },
		apply: func(ctx context.Context) error {
			data, err := json.Marshal(object)
			if err != nil {
				return fmt.Errorf("write %s: %w", what, err)
			}
			opts := metav1.PatchOptions{FieldManager: manager, Force: new(true)}
			if _, err := c.Patch(ctx, name, types.ApplyPatchType, data, opts); err != nil {
				return fmt.Errorf("apply %s: %w", what, err)
			}
			return nil
		},
		remove: func(ctx context.Context) error { return c.Delete(ctx, name, metav1.DeleteOptions{}) },
	}
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
	err = pods.Delete(ctx, Shell, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete pod %s/%s: %w", Namespace, Shell, err)
	}
	return nil
}

// Foreign are the objects of the demo's names that Apply has not made, as "daemonset default/demo".
func Foreign(ctx context.Context, c kubernetes.Interface) ([]string, error) {
	var out []string
	for _, p := range parts(c, Config{}) {
		obj, err := p.get(ctx)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("get %s: %w", p.what, err)
		}
		ours := func(f metav1.ManagedFieldsEntry) bool { return f.Manager == manager }
		if !slices.ContainsFunc(obj.GetManagedFields(), ours) {
			out = append(out, p.what)
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
	for _, p := range parts(c, Config{}) {
		if err := p.remove(ctx); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("remove demo: %w", err))
		}
	}
	return errors.Join(errs...)
}
