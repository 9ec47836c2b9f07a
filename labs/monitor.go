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
	w := &watch[api.Event]{
		lab: l, nodes: nodes, who: "its agent", whom: "the agents of lab " + l.Name, begin: sayWatched(o.Say),
		say: o.Say, while: o.While, emit: emit,
		stream: func(ctx context.Context, n cluster.Node, each func(line[api.Event]) error) error {
			return l.events(ctx, n, agents[n.Name], agentPatience, o.Pick, each)
		},
	}
	return w.watch(ctx)
}

// sayWatched says which nodes are watched.
func sayWatched(say func(string)) func([]string) error {
	return func(nodes []string) error {
		say("watching " + strings.Join(nodes, ", "))
		return nil
	}
}

// events hands on the lines of an agent's monitor until ctx ends, and returns why it ended before. An agent that starts is waited
// for that long.
func (l *Lab) events(ctx context.Context, n cluster.Node, agent *corev1.Pod, patience time.Duration, pick []string, each func(line[api.Event]) error) error {
	if agent == nil {
		return errors.New("no agent pod on this node")
	}
	cmd := slices.Concat([]string{agentBinary, "monitor", "--stream"}, pick)
	err := whenStarted(ctx, patience, func() error {
		var words bytes.Buffer
		code, err := l.Kube.ExecStream(ctx, kube.PodRef{Namespace: agent.Namespace, Name: agent.Name, Container: agentContainer},
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

func decodeLine(b []byte, each func(line[api.Event]) error) error {
	var said api.MonitorLine
	if err := json.Unmarshal(b, &said); err != nil {
		return fmt.Errorf("read the agent's events: %w", err)
	}
	told := line[api.Event]{seen: said.Event, upTo: said.UpTo}
	if said.Event != nil {
		told.at = said.Event.Time
	}
	return each(told)
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
