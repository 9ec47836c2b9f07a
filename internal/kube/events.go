package kube

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
)

// Events are the last events of an object, at most limit, oldest first, a line each.
func (c *Client) Events(ctx context.Context, o Object, limit int) ([]string, error) {
	ns := cmp.Or(o.Namespace, metav1.NamespaceDefault) // where events of cluster-wide objects are kept
	l, err := c.CoreV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: fields.Set{
		"involvedObject.kind": o.Kind, "involvedObject.name": o.Name,
	}.String()})
	if err != nil {
		return nil, fmt.Errorf("list events of %s: %w", o, err)
	}
	slices.SortStableFunc(l.Items, func(a, b corev1.Event) int { return eventTime(&a).Compare(eventTime(&b)) })
	if n := len(l.Items); n > limit {
		l.Items = l.Items[n-limit:]
	}
	var out []string
	for i := range l.Items {
		e := &l.Items[i]
		out = append(out, fmt.Sprintf("%s %s %s: %s", eventTime(e).Format(time.TimeOnly), e.Type, e.Reason, oneLine(e.Message)))
	}
	return out, nil
}

// eventTime is when an event was last seen; the two APIs that write events use different fields.
func eventTime(e *corev1.Event) time.Time {
	switch {
	case e.Series != nil:
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}

// lastWords are the last log lines of the first container of a pod that is not ready: those of its earlier run when it
// is waiting to be started again. A container that never ran has none.
func (c *Client) lastWords(ctx context.Context, o Object, limit int64) ([]string, error) {
	p, err := c.CoreV1().Pods(o.Namespace).Get(ctx, o.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", o, err)
	}
	for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		if s.Ready || (s.State.Terminated != nil && s.State.Terminated.ExitCode == 0) {
			continue
		}
		if s.State.Running == nil && s.State.Terminated == nil && s.RestartCount == 0 {
			return nil, nil
		}
		opts := &corev1.PodLogOptions{Container: s.Name, TailLines: &limit, Previous: s.State.Waiting != nil && s.RestartCount > 0}
		b, err := c.CoreV1().Pods(o.Namespace).GetLogs(o.Name, opts).DoRaw(ctx)
		if err != nil {
			return nil, fmt.Errorf("read log of container %s: %w", s.Name, err)
		}
		text := strings.TrimSpace(string(b))
		if text == "" {
			return nil, nil
		}
		return strings.Split(text, "\n"), nil
	}
	return nil, nil
}

// Logs opens the log of a pod's container. With Follow in opts it goes on until ctx ends. The caller closes it.
func (c *Client) Logs(ctx context.Context, p PodRef, opts corev1.PodLogOptions) (io.ReadCloser, error) {
	opts.Container = p.Container
	// The typed client's deadline would cut a followed log off.
	long, err := kubernetes.NewForConfig(c.Config)
	if err != nil {
		return nil, fmt.Errorf("set up kubernetes client: %w", err)
	}
	r, err := long.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &opts).Stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("read log of pod %s: %w", p, err)
	}
	return r, nil
}
