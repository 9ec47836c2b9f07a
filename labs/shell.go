package labs

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/remotecommand"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/docker"
	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/internal/nearest"
)

// node finds a node by its full name or by what follows the lab's name and a dash.
func (l *Lab) node(name string) (cluster.Node, error) {
	for _, n := range l.Nodes {
		if n.Name == name || n.Name == l.Name+"-"+name {
			return n, nil
		}
	}
	return cluster.Node{}, placeError(fmt.Sprintf("lab %q has no node %q: %s", l.Name, name, thereAre(l.fullName(name), l.nodeNames())))
}

// placeError is an [ErrPlace] for those who ask.
type placeError string

func (e placeError) Error() string { return string(e) }

func (placeError) Unwrap() error { return ErrPlace }

// fullName is what a node is called that somebody wrote without the lab's name.
func (l *Lab) fullName(node string) string {
	if strings.HasPrefix(node, l.Name+"-") {
		return node
	}
	return l.Name + "-" + node
}

// nodesOf are the node of that name, or all of them where it is empty.
func (l *Lab) nodesOf(name string) ([]cluster.Node, error) {
	if name == "" {
		return l.Nodes, nil
	}
	n, err := l.node(name)
	return []cluster.Node{n}, err
}

func (l *Lab) nodeNames() []string {
	var out []string
	for _, n := range l.Nodes {
		out = append(out, n.Name)
	}
	return out
}

// Size is a terminal's, in characters.
type Size struct{ Width, Height uint16 }

// Shell runs cmd, or a shell when cmd is empty, on a node or in a pod, and returns its exit status. On a terminal a shell
// begins with what is there. place is a node's
// name (full, or what follows the lab's), a pod's (namespace/name, or a name in the default namespace or else in any), or
// the start of a pod's name that fits just one. sizes gives the terminal's sizes and may be nil; it is closed by the
// caller.
func (l *Lab) Shell(ctx context.Context, place string, s kube.Streams, sizes <-chan Size, cmd ...string) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // lets go of whoever waits for sizes
	if n, err := l.node(place); err == nil {
		if why := n.Down(); why != "" {
			return 0, fmt.Errorf("node %s %s: lab up starts or resumes it", n.Name, why)
		}
		if len(cmd) == 0 {
			cmd = nodeShell(n, s.TTY)
		}
		held := newLeash(ctx, n, "")
		code, err := l.Engine.Interact(ctx, n.Name, docker.Terminal{
			Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr, TTY: s.TTY, Resize: forDocker(sizes), Env: []string{held.env()},
		}, cmd...)
		held.end(err)
		return code, err
	}
	found, err := l.findPod(ctx, place)
	if err != nil {
		return 0, err
	}
	if len(cmd) == 0 {
		cmd = podShell(found.Namespace+"/"+found.Name, found.Spec.NodeName, s.TTY)
	}
	if sizes != nil {
		s.Resize = sizeQueue{ctx, sizes}
	}
	return l.inPod(ctx, found, s, cmd)
}

// inPod runs a command in a pod, marked for its leash where the pod's container has env. One that has not, such as those
// of images with a single program, is told by its command line.
func (l *Lab) inPod(ctx context.Context, p *corev1.Pod, s kube.Streams, cmd []string) (int, error) {
	ref := kube.PodRef{Namespace: p.Namespace, Name: p.Name, Container: p.Spec.Containers[0].Name}
	run := func(argv ...string) (code int, err error) {
		err = l.toldWhenStarted(ctx, "pod "+ref.String(), func() error {
			code, err = l.Kube.ExecStream(ctx, ref, s, argv...)
			return err
		})
		return code, onNode(p.Spec.NodeName, "pod "+ref.String(), err)
	}
	n, err := l.node(p.Spec.NodeName)
	id := containerID(p)
	if err != nil || id == "" {
		return run(cmd...)
	}
	if why := n.Down(); why != "" {
		return 0, fmt.Errorf("pod %s is on node %s, which %s: lab up starts or resumes it", ref, n.Name, why)
	}
	if p.Labels["app.kubernetes.io/name"] != agentName {
		held := newLeash(ctx, n, "")
		code, err := run(append([]string{"env", held.env()}, cmd...)...)
		held.end(err)
		if err == nil || !strings.Contains(err.Error(), `"env"`) || !strings.Contains(err.Error(), "executable file not found") {
			return code, err
		}
	}
	held := newLeash(ctx, n, id, cmd...)
	code, err := run(cmd...)
	held.end(err)
	return code, err
}

// containerID is that of the pod's first container, as its runtime has it; empty when none runs.
func containerID(p *corev1.Pod) string {
	for _, s := range p.Status.ContainerStatuses {
		if s.Name == p.Spec.Containers[0].Name && s.State.Running != nil {
			_, id, _ := strings.Cut(s.ContainerID, "://")
			return id
		}
	}
	return ""
}

// nowhere is the error of a place that is neither a node nor one of pods, with the one that was probably meant.
func (l *Lab) nowhere(place string, pods []corev1.Pod) error {
	var names []string
	for _, n := range l.nodeNames() {
		names = append(names, n, strings.TrimPrefix(n, l.Name+"-"))
	}
	for _, p := range pods {
		names = append(names, p.Name, p.Namespace+"/"+p.Name)
	}
	near := nearest.Of(place, names)
	if near != "" {
		near = "did you mean " + near + "? "
	}
	return placeError(fmt.Sprintf("lab %q has neither a node nor a pod %q: %snodes are %s; lab endpoint list has the pods",
		l.Name, place, near, strings.Join(l.nodeNames(), ", ")))
}

// findPod finds a running pod by what a person typed.
func (l *Lab) findPod(ctx context.Context, place string) (*corev1.Pod, error) {
	ns, name, qualified := strings.Cut(strings.TrimPrefix(place, "pod/"), "/")
	if !qualified {
		ns, name = "", ns
	}
	pods, err := l.listPods(ctx, ns)
	if err != nil {
		return nil, err
	}
	fits := matching(pods, name)
	switch len(fits) {
	case 1:
		return &fits[0], nil
	case 0:
		return nil, l.nowhere(place, pods)
	}
	return nil, placeError(fmt.Sprintf("%q fits %d pods: say which: %s", place, len(fits), strings.Join(namesOf(fits), ", ")))
}

// matching are the pods of exactly that name, those of the default namespace first choice; if there are none, those
// whose name begins so.
func matching(pods []corev1.Pod, name string) []corev1.Pod {
	keep := func(ok func(corev1.Pod) bool) []corev1.Pod {
		return slices.DeleteFunc(slices.Clone(pods), func(p corev1.Pod) bool { return !ok(p) })
	}
	exact := keep(func(p corev1.Pod) bool { return p.Name == name })
	if len(exact) > 1 {
		if own := keep(func(p corev1.Pod) bool { return p.Name == name && p.Namespace == metav1.NamespaceDefault }); len(own) == 1 {
			return own
		}
	}
	if len(exact) > 0 {
		return exact
	}
	return keep(func(p corev1.Pod) bool { return name != "" && strings.HasPrefix(p.Name, name) })
}

// sizeQueue hands terminal sizes to a pod's exec, until ctx ends.
type sizeQueue struct {
	ctx   context.Context //nolint:containedctx // Next has none, and must end with the command
	sizes <-chan Size
}

func (q sizeQueue) Next() *remotecommand.TerminalSize {
	select {
	case s, ok := <-q.sizes:
		if !ok {
			return nil
		}
		return &remotecommand.TerminalSize{Width: s.Width, Height: s.Height}
	case <-q.ctx.Done():
		return nil
	}
}

func forDocker(sizes <-chan Size) func(context.Context) (uint, uint, bool) {
	if sizes == nil {
		return nil
	}
	return func(ctx context.Context) (width, height uint, ok bool) {
		select {
		case s, ok := <-sizes:
			return uint(s.Width), uint(s.Height), ok
		case <-ctx.Done():
			return 0, 0, false
		}
	}
}
