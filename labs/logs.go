package labs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/labs/demo"
)

// agentLabel selects the agents' pods, relayLabel the relay's.
const (
	agentLabel = "app.kubernetes.io/name=" + agentName
	relayLabel = "app.kubernetes.io/name=" + relayName
)

// component is a part of a lab that writes logs.
type component struct{ name, namespace, selector string }

func components() []component {
	return []component{
		{"agent", SystemNamespace, agentLabel},
		{"coredns", SystemNamespace, dnsLabel},
		{"demo", demo.Namespace, "app=" + demo.Name},
		{"kube-proxy", SystemNamespace, "k8s-app=kube-proxy"},
		{"relay", SystemNamespace, relayLabel},
	}
}

// Components are the names that LogOptions.Component takes.
func Components() []string {
	var out []string
	for _, c := range components() {
		out = append(out, c.name)
	}
	return out
}

// LogOptions say which logs to show.
type LogOptions struct {
	Component string
	// Node limits them to one node, by its full name or what follows the lab's; empty: all.
	Node   string
	Follow bool
	// Tail is how many lines of each pod to begin with; negative: all there are.
	Tail int64
	// Packets has the agent's lines about packets too, of which there are many where every packet is an event.
	Packets bool
}

// LogLine is one line of one pod's log.
type LogLine struct {
	// Time is when it was written, as the node's runtime says.
	Time time.Time `json:"time,omitzero"`
	Node string    `json:"node"`
	Pod  string    `json:"pod"`
	Line string    `json:"line"`
}

// Logs hands the log lines of a component's pods to emit, one call at a time: in the order of their times, or with Follow as they
// come until ctx ends, which is no error then.
func (l *Lab) Logs(ctx context.Context, o LogOptions, emit func(LogLine)) error {
	i := slices.IndexFunc(components(), func(c component) bool { return c.name == o.Component })
	if i < 0 {
		return fmt.Errorf("no component %q: there are %s", o.Component, strings.Join(Components(), ", "))
	}
	// Only agents have lines about packets.
	o.Packets = o.Packets || o.Component != "agent"
	pods, err := l.podsOf(ctx, components()[i], o.Node)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var read []LogLine
	one := func(line LogLine) {
		mu.Lock()
		defer mu.Unlock()
		if o.Follow {
			emit(line)
		} else {
			read = append(read, line)
		}
	}
	// One that ends, as with its node, does not end the others.
	failures := make([]error, len(pods))
	var all sync.WaitGroup
	for i := range pods {
		all.Go(func() { failures[i] = l.readLog(ctx, &pods[i], o, one) })
	}
	all.Wait()
	// Those of one time stay as their nodes are.
	slices.SortStableFunc(read, func(a, b LogLine) int { return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.Node, b.Node)) })
	for _, line := range read {
		emit(line)
	}
	if o.Follow && ctx.Err() != nil {
		return nil
	}
	return errors.Join(failures...)
}

// podsOf lists a component's pods, sorted by node. None is an error that says so.
func (l *Lab) podsOf(ctx context.Context, c component, node string) ([]corev1.Pod, error) {
	opts := metav1.ListOptions{LabelSelector: c.selector}
	where := "lab " + l.Name
	if node != "" {
		n, err := l.node(node)
		if err != nil {
			return nil, err
		}
		opts.FieldSelector = "spec.nodeName=" + n.Name
		where = "node " + n.Name
	}
	list, err := l.Kube.CoreV1().Pods(c.namespace).List(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("list %s pods of lab %q: %w", c.name, l.Name, err)
	}
	if len(list.Items) == 0 {
		return nil, fmt.Errorf("no %s pod runs on %s", c.name, where)
	}
	slices.SortFunc(list.Items, func(a, b corev1.Pod) int {
		return strings.Compare(a.Spec.NodeName+" "+a.Name, b.Spec.NodeName+" "+b.Name)
	})
	return list.Items, nil
}

func (l *Lab) readLog(ctx context.Context, p *corev1.Pod, o LogOptions, emit func(LogLine)) error {
	ref := kube.PodRef{Namespace: p.Namespace, Name: p.Name, Container: p.Spec.Containers[0].Name}
	if n, err := l.node(p.Spec.NodeName); err == nil && n.Down() != "" {
		return fmt.Errorf("node %s %s: no log of pod %s", n.Name, n.Down(), ref)
	}
	log := podLog{
		pod:  ref,
		open: func(opts corev1.PodLogOptions) (io.ReadCloser, error) { return l.Kube.Logs(ctx, ref, opts) },
		emit: func(line writtenLine) { emit(LogLine{line.at, p.Spec.NodeName, p.Name, line.text}) },
	}
	return onNode(p.Spec.NodeName, "pod "+ref.String(), l.toldWhenStarted(ctx, "pod "+ref.String(), func() error { return log.show(o) }))
}
