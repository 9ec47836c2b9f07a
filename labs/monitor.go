package labs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/kube"
)

// MonitorOptions say what to watch.
type MonitorOptions struct {
	// Node limits it to one node, by its full name or what follows the lab's; empty: all.
	Node string
	// Pick are flags of the agents' monitor that pick events.
	Pick []string
	// Say is told which nodes are watched, once they are, and of those that are not, or no more.
	Say func(string)
	// While is run when the nodes are watched; nil: nothing is. What happened meanwhile is what counts then, and the end of
	// it the end of the monitor.
	While func(context.Context)
}

// Monitor hands what the agents report to emit, one event at a time, in the order of their times. It ends with While, or
// with ctx, which is no error unless While has not begun by then, or when emit fails. A node that cannot be watched is said,
// and the error at the end is [ErrPartly]; the others are watched all the same.
func (l *Lab) Monitor(ctx context.Context, o MonitorOptions, emit func(api.Event) error) error {
	nodes, err := l.nodesOf(o.Node)
	if err != nil {
		return err
	}
	agents, err := l.agentPods(ctx)
	if err != nil {
		return err
	}
	// What While did just before an interrupt counts, too, so streams do not end with ctx.
	streaming, stop := context.WithCancel(context.WithoutCancel(ctx))
	var streams sync.WaitGroup
	defer streams.Wait()
	defer stop()
	from := make(chan sent)
	for _, n := range nodes {
		streams.Go(func() {
			hand := func(s sent) error {
				select {
				case from <- s:
					return nil
				case <-streaming.Done():
					return streaming.Err()
				}
			}
			err := l.stream(streaming, n, agents[n.Name], o.Pick, func(line api.MonitorLine) error { return hand(sent{node: n.Name, line: line}) })
			_ = hand(sent{node: n.Name, over: err})
		})
	}
	w := &watch{lab: l, nodes: nodes, o: o, emit: emit, merged: newMerger(), failures: make([]error, len(nodes))}
	if err := w.join(ctx, from); err != nil || ctx.Err() != nil && o.While == nil {
		return err
	}
	err = w.run(ctx, from)
	if err == nil && w.failed() != nil {
		err = ErrPartly
	}
	return err
}

// ErrPartly says that some nodes were not watched, or not to the end. Which they are has been said.
var ErrPartly = errors.New("not all nodes were watched")

// sent is what comes from a node: a line, or why there are no more.
type sent struct {
	node string
	line api.MonitorLine
	over error
}

// stream hands on the lines of an agent's monitor until ctx ends, and returns why it ended before.
func (l *Lab) stream(ctx context.Context, n cluster.Node, agent *corev1.Pod, pick []string, each func(api.MonitorLine) error) error {
	if why := n.Down(); why != "" {
		return errors.New(why)
	}
	if agent == nil {
		return errors.New("no agent pod on this node")
	}
	cmd := slices.Concat([]string{agentBinary, "monitor", "--stream"}, pick)
	err := whenStarted(ctx, agentPatience, func() error {
		var words bytes.Buffer
		code, err := kube.ExecStream(ctx, l.Kube, l.Kube.Config, kube.PodRef{Namespace: agent.Namespace, Name: agent.Name, Container: agentContainer},
			kube.Streams{Stdin: openUntil{ctx}, Stdout: &lineWriter{each: func(b []byte) error { return decodeLine(b, each) }}, Stderr: &words}, cmd...)
		if err == nil {
			err = errors.New(strings.TrimPrefix(strings.TrimSpace(words.String()), "wirelab-agent: "))
			if words.Len() == 0 {
				err = fmt.Errorf("its monitor ended with status %d", code)
			}
		}
		return err
	})
	return explainKubelet(n.Name, "the agent", err)
}

func decodeLine(b []byte, each func(api.MonitorLine) error) error {
	var line api.MonitorLine
	if err := json.Unmarshal(b, &line); err != nil {
		return fmt.Errorf("read the agent's events: %w", err)
	}
	return each(line)
}

// openUntil is an input with nothing in it that ends with ctx. An agent's monitor ends with its input, which ends with the
// connection, however lab ends.
type openUntil struct{ ctx context.Context } //nolint:containedctx // Read has none

func (o openUntil) Read([]byte) (int, error) {
	<-o.ctx.Done()
	return 0, io.EOF
}

// maxLine is the most that a line may have. An event with a whole packet has some 10,000 bytes.
const maxLine = 1 << 20

// lineWriter hands on what is written to it by lines.
type lineWriter struct {
	rest []byte
	each func([]byte) error
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	rest := w.rest
	for {
		line, after, whole := bytes.Cut(rest, []byte{'\n'})
		if !whole {
			break
		}
		if err := w.each(line); err != nil {
			return 0, err
		}
		rest = after
	}
	if len(rest) > maxLine {
		return 0, fmt.Errorf("a line of more than %d bytes", maxLine)
	}
	w.rest = append(w.rest[:0], rest...)
	return len(b), nil
}

// watch is a monitor at work.
type watch struct {
	lab      *Lab
	nodes    []cluster.Node
	o        MonitorOptions
	emit     func(api.Event) error
	merged   *merger
	failures []error // by node, as nodes has them
}

// take takes what came from a node, and says whether it was its end.
func (w *watch) take(s sent) (over bool) {
	i := slices.IndexFunc(w.nodes, func(n cluster.Node) bool { return n.Name == s.node })
	switch {
	case w.failures[i] != nil: // it has been given up
		return false
	case s.over == nil:
		w.merged.add(s.node, s.line, time.Now())
		return false
	}
	w.merged.remove(s.node)
	w.failures[i] = s.over
	return true
}

// join waits until every node has begun to tell, or cannot be watched, and says so. No node at all is an error. ctx may end
// it early.
func (w *watch) join(ctx context.Context, from <-chan sent) error {
	defer telling(w.lab.say, "waiting for the agents of lab "+w.lab.Name)()
	late := time.After(beginTimeout)
	heard := map[string]bool{}
	for len(heard) < len(w.nodes) {
		select {
		case s := <-from:
			w.take(s)
			heard[s.node] = true
		case <-late:
			for i, n := range w.nodes {
				if !heard[n.Name] {
					heard[n.Name] = true
					w.failures[i] = fmt.Errorf("its agent does not answer within %s", beginTimeout)
				}
			}
		case <-ctx.Done():
			return nil
		}
	}
	var watched []string
	for i, n := range w.nodes {
		if w.failures[i] == nil {
			watched = append(watched, strings.TrimPrefix(n.Name, w.lab.Name+"-"))
		}
	}
	if len(watched) == 0 {
		return w.failed()
	}
	for i, err := range w.failures {
		if err != nil {
			w.o.Say(fmt.Sprintf("node %s is not watched: %v", w.nodes[i].Name, err))
		}
	}
	w.o.Say("watching " + strings.Join(watched, ", "))
	return nil
}

// failed is why nodes are not watched.
func (w *watch) failed() error { return nodesFailed(w.nodes, w.failures) }

// run emits events until there is an end.
func (w *watch) run(ctx context.Context, from <-chan sent) error {
	end := ctx.Done()
	var began, ended time.Time
	over := make(chan struct{})
	if w.o.While != nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		end = nil // While is told, and ends
		began = time.Now()
		go func() {
			defer close(over)
			w.o.While(ctx)
		}()
	}
	again := time.NewTicker(silence / 10) // to see who is silent
	defer again.Stop()
	var failed error
	for {
		select {
		case s := <-from:
			if w.take(s) {
				w.o.Say(fmt.Sprintf("node %s is watched no more: %v", s.node, s.over))
			}
		case <-again.C:
		case <-over:
			over, ended = nil, time.Now()
		case <-end:
			return nil
		}
		now := time.Now()
		for _, e := range w.merged.take(now) {
			if failed == nil && !e.Time.Before(began) && (ended.IsZero() || !e.Time.After(ended)) {
				failed = w.emit(e)
			}
		}
		told := w.merged.upTo(now)
		switch {
		case failed != nil && (w.o.While == nil || !ended.IsZero()):
			return failed
		case !ended.IsZero() && (told.IsZero() || told.After(ended) || now.Sub(ended) > silence):
			return nil
		case len(w.merged.nodes) == 0 && w.o.While == nil:
			return nil // what failed says why
		}
	}
}

// PodAddr finds the address of a pod, for [show.ParseEnd].
func (l *Lab) PodAddr(ctx context.Context) func(namespace, name string) (netip.Addr, error) {
	return func(namespace, name string) (netip.Addr, error) {
		p, err := l.Kube.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return netip.Addr{}, fmt.Errorf("lab %q has no such pod", l.Name)
		case err != nil:
			return netip.Addr{}, fmt.Errorf("ask lab %q for pod %s/%s: %w", l.Name, namespace, name, err)
		case p.Spec.HostNetwork:
			return netip.Addr{}, fmt.Errorf("the pod has no address but its node's, %s", p.Status.HostIP)
		}
		addr, err := netip.ParseAddr(p.Status.PodIP)
		if err != nil {
			return netip.Addr{}, errors.New("the pod has no address yet")
		}
		return addr, nil
	}
}

// PodsWithAddress lists the names of pods that [Lab.PodAddr] finds, for completion.
func (l *Lab) PodsWithAddress(ctx context.Context) (names []string, err error) {
	pods, err := l.Kube.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list pods of lab %q: %w", l.Name, err)
	}
	for _, p := range pods.Items {
		if !p.Spec.HostNetwork && p.Status.PodIP != "" {
			names = append(names, p.Namespace+"/"+p.Name)
		}
	}
	return names, nil
}
