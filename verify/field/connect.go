package field

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"wirelab.dev/wirelab/internal/docker"
	"wirelab.dev/wirelab/internal/interrupt"
	"wirelab.dev/wirelab/verify"
	"wirelab.dev/wirelab/verify/probe"
)

const (
	// serveFor bounds the servers a run starts on nodes and outside.
	serveFor = probe.Duration(10 * time.Minute)
	// commandTimeout bounds a command on a peer.
	commandTimeout = probe.Duration(10 * time.Second)
)

// stage is what of a run has to be ended with it.
type stage struct {
	life     context.Context // of the sessions
	end      context.CancelFunc
	mu       sync.Mutex
	sessions []*session
}

// Begin makes the pods and Services of a run ahead of it, in a lab that has seen none, on nodes. It waits for none of them: for
// that the run opens a field with Config.Begun set. With an error what is made is still there, for that run to take away.
func Begin(ctx context.Context, cfg Config, parts []verify.Part, nodes []string) error {
	parts = verify.Whole(parts)
	if !slices.Contains(parts, verify.Pods) {
		return nil
	}
	return createAll(ctx, cfg, parts, slices.Sorted(slices.Values(nodes)))
}

// Open implements [verify.Field].
func (e *Env) Open(ctx context.Context, parts []verify.Part) error {
	e.stage.life, e.stage.end = context.WithCancel(context.WithoutCancel(ctx))
	e.parts = verify.Whole(parts)
	if !e.Begun {
		e.say("looking for what an interrupted run left behind")
		if err := e.removeAll(ctx, verify.Whole([]verify.Part{verify.Services, verify.Native})); err != nil {
			return err
		}
	}
	if err := e.findNodes(ctx); err != nil {
		return err
	}
	containers, err := containersOf(ctx, e.Engine, e.Lab)
	if err != nil {
		return err
	}
	// The last by name is a worker wherever there is one.
	only := e.Nodes[len(e.Nodes)-1].Node
	e.say("making what the checks need: " + partsText(e.parts))
	group, groupCtx := errgroup.WithContext(ctx)
	for part, open := range map[verify.Part]func(context.Context) error{
		verify.Pods:    e.openPods,
		verify.Nodes:   e.openNodes,
		verify.Outside: func(ctx context.Context) error { return e.openOutside(ctx, containers[0]) },
		verify.Demo:    e.openDemo,
	} {
		if e.has(part) {
			group.Go(func() error { return open(groupCtx) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if e.has(verify.Native) {
		if err := addNative(ctx, e); err != nil {
			return err
		}
	}
	if !e.has(verify.Services) {
		return nil
	}
	e.services = once(func(ctx context.Context) (struct{}, error) { return struct{}{}, awaitServices(ctx, e) })
	if err := readServices(ctx, e, only); err != nil {
		return err
	}
	go e.ServicesReady(e.stage.life) //nolint:errcheck // by the first check that needs them the wait is half over, and the check hears of errors
	return nil
}

func (e *Env) has(part verify.Part) bool { return slices.Contains(e.parts, part) }

func partsText(parts []verify.Part) string {
	var words []string
	for _, part := range parts {
		words = append(words, string(part))
	}
	return strings.Join(words, ", ")
}

// findNodes lists the nodes that run. Nothing is at hand there yet.
func (e *Env) findNodes(ctx context.Context) error {
	all, err := findNodes(ctx, e.Config)
	if err != nil {
		return err
	}
	e.Nodes = slices.DeleteFunc(all, func(n *Node) bool { return e.Down[n.Node] != "" })
	if len(e.Nodes) == 0 {
		return fmt.Errorf("no node of lab %s runs: lab up starts or resumes them", e.Lab)
	}
	for _, n := range e.Nodes {
		n.Prober = NotLaidOut(verify.Nodes)
		n.Client, n.Server = podPeer(RoleClient, n.Node), podPeer(RoleServer, n.Node)
	}
	e.Outside = Peer{Name: outsideName, Prober: NotLaidOut(verify.Outside)}
	return nil
}

// outsideName is how evidence calls the host outside.
const outsideName = "outside host"

// openDemo finds the demo's pods on nodes that run. They run nettool, so they can be sent from.
func (e *Env) openDemo(ctx context.Context) error {
	service, err := e.DemoService(ctx)
	if err != nil {
		return err
	}
	endpoints, err := e.EndpointsOf(ctx, service)
	if err != nil {
		return err
	}
	for _, found := range endpoints {
		if e.Down[found.Node] != "" {
			continue // it is still among the endpoints for a while
		}
		pod := Peer{Name: PodPrefix + found.Pod, Self: found.Pod, Addr: found.Addr, Node: found.Node}
		pod.Prober = e.session(pod.Name, inPod(e.Pods, service.Namespace, found.Pod))
		e.DemoPods = append(e.DemoPods, pod)
	}
	return nil
}

// openPods makes pods, and Services where they are needed, unless they were made ahead, and waits for the pods. One that does not
// come up makes the checks that need it fail to look, and no others; the error is for what concerns all.
func (e *Env) openPods(ctx context.Context) error {
	if !e.Begun {
		var nodes []string
		for _, node := range e.Nodes {
			nodes = append(nodes, node.Node)
		}
		if err := createAll(ctx, e.Config, e.parts, nodes); err != nil {
			return err
		}
	}
	var pods []*Peer
	for _, node := range e.Nodes {
		pods = append(pods, &node.Client, &node.Server)
	}
	if leaves(e.Config, e.parts) {
		e.Leaver = podPeer(RoleLeaver, e.Nodes[0].Node)
		pods = append(pods, &e.Leaver)
	}
	err := verify.Each(pods, func(pod *Peer) error { return e.openPod(ctx, pod) })
	if lacking := (*noImage)(nil); errors.As(err, &lacking) {
		return lacking // once
	}
	return err
}

// podPeer is a pod of the run that has no address yet.
func podPeer(role, node string) Peer {
	return Peer{
		Name: PodPrefix + role + "-" + node, Self: PodName(role, node), Node: node, Port: PodPort, Prober: NotLaidOut(verify.Pods),
	}
}

func (e *Env) openPod(ctx context.Context, pod *Peer) error {
	// Less than the setup as a whole, so that a pod that hangs is told of.
	ctx, cancel := context.WithTimeoutCause(ctx, e.SetupTimeout*3/4, errors.New("time ran out"))
	defer cancel()
	addr, err := awaitPod(ctx, e.Kube, pod.Self)
	if lacking := (*noImage)(nil); errors.As(err, &lacking) {
		return lacking
	}
	if err != nil {
		e.Log.Warn("a pod of the checks is not ready", "pod", pod.Self, "node", pod.Node, "err", err)
		pod.Prober = down{err}
		return nil
	}
	pod.Addr, pod.Prober = addr, e.session(pod.Name, inPod(e.Pods, Namespace, pod.Self))
	return nil
}

func (e *Env) openNodes(ctx context.Context) error {
	return verify.Each(e.Nodes, func(node *Node) error {
		if err := e.Engine.WriteFile(ctx, node.Node, nettoolInContainer, 0o755, e.Nettool); err != nil {
			return fmt.Errorf("put nettool on node %s: %w", node.Node, err)
		}
		node.Prober = e.session(node.Name, inContainer(e.Engine, node.Node))
		running, err := serveOn(ctx, node, netip.AddrPortFrom(node.Addr, 0))
		if err == nil {
			node.Port = running.Ready().Serve.Address.Port()
		}
		return err
	})
}

func (e *Env) openOutside(ctx context.Context, like docker.Found) error {
	container, err := startOutside(ctx, e.Config, like)
	if err != nil {
		return err
	}
	outside := Peer{Name: outsideName, Addr: container.IP, Port: OutsidePort}
	outside.Prober = e.session(outside.Name, inContainer(e.Engine, container.ID))
	e.Outside = outside
	_, err = serveOn(ctx, outside, netip.AddrPortFrom(netip.IPv4Unspecified(), OutsidePort))
	return err
}

func (e *Env) session(name string, shell shell) *session {
	e.stage.mu.Lock()
	defer e.stage.mu.Unlock()
	opened := newSession(e.stage.life, name, shell)
	e.stage.sessions = append(e.stage.sessions, opened)
	return opened
}

// Close implements [verify.Field].
func (e *Env) Close(ctx context.Context) error {
	err := e.remove(ctx)
	if err != nil && interrupt.Stopped(ctx) {
		return fmt.Errorf("remove what the checks made in lab %s: %w: left are pods and Services with the label %s in namespace %s, and containers with the label %s=%s: the next lab verify removes them",
			e.Lab, interrupt.ErrStopped, runLabel, Namespace, ContainerLabel, e.Lab)
	}
	return err
}

// remove takes away all that Open made, as far as it came.
func (e *Env) remove(ctx context.Context) error {
	e.say("removing what the checks made")
	var sessions sync.WaitGroup
	for _, open := range e.stage.sessions {
		sessions.Go(open.Close)
	}
	sessions.Wait()
	e.stage.end()
	return e.removeAll(ctx, e.parts)
}

// removeAll takes parts away, whichever run has laid them out.
func (e *Env) removeAll(ctx context.Context, parts []verify.Part) error {
	return verify.Each(parts, func(part verify.Part) error {
		switch part {
		case verify.Pods:
			return removeObjects(ctx, e.Config)
		case verify.Nodes:
			return removeFromNodes(ctx, e.Config)
		case verify.Outside:
			return removeOutside(ctx, e.Config)
		}
		return nil
	})
}

func (e *Env) say(step string) { e.Progress(verify.Progress{Step: step}) }
