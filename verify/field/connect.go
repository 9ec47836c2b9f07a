package field

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
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
	// commandTimeout bounds a command on a host.
	commandTimeout = probe.Duration(10 * time.Second)
)

// stage is what of a run has to be ended with it.
type stage struct {
	life     context.Context // of the sessions
	end      context.CancelFunc
	mu       sync.Mutex
	sessions []*session
}

// Open implements [Field].
func (e *Env) Open(ctx context.Context) error {
	e.stage.life, e.stage.end = context.WithCancel(context.WithoutCancel(ctx))
	e.say("looking for what an interrupted run left behind")
	if err := e.removeAll(ctx); err != nil {
		return err
	}
	var err error
	if e.Nodes, err = findNodes(ctx, e.Kube); err != nil {
		return err
	}
	containers, err := containersOf(ctx, e.Engine, e.Lab)
	if err != nil {
		return err
	}
	// The last by name is a worker wherever there is one.
	only := e.Nodes[len(e.Nodes)-1].Node
	e.say("making pods, Services and a host outside")
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := createAll(groupCtx, e.Config, e.Nodes, only); err != nil {
			return err
		}
		return e.openPods(groupCtx)
	})
	group.Go(func() error { return e.openNodes(groupCtx) })
	group.Go(func() error { return e.openOutside(groupCtx, containers[0]) })
	if err := group.Wait(); err != nil {
		return err
	}
	if err := addNative(ctx, e); err != nil {
		return err
	}
	e.settle = once(func(ctx context.Context) error { return settle(ctx, e) })
	return readServices(ctx, e, only)
}

// openPods waits for the pods. One that does not come up makes the checks that
// need it fail to look, and no others; the error is for what concerns all.
func (e *Env) openPods(ctx context.Context) error {
	var pods []podPlace
	for _, node := range e.Nodes {
		pods = append(pods, podPlace{RoleClient, node.Node, &node.Client}, podPlace{RoleServer, node.Node, &node.Server})
	}
	if e.Replaced() {
		pods = append(pods, podPlace{RoleLeaver, e.Nodes[0].Node, &e.Leaver})
	}
	err := verify.Each(pods, func(p podPlace) error { return e.openPod(ctx, p) })
	if errors.Is(err, errNoImage) {
		return fmt.Errorf("the nodes do not have image %s of this version of lab: bring the lab up to date with lab up", e.Image)
	}
	return err
}

// podPlace is a pod and where its Host goes.
type podPlace struct {
	role, node string
	into       *Host
}

func (e *Env) openPod(ctx context.Context, p podPlace) error {
	name := PodName(p.role, p.node)
	*p.into = Host{Name: PodPrefix + p.role + "-" + p.node, Self: name, Node: p.node, Port: PodPort}
	// Less than the setup as a whole, so that a pod that hangs is told of.
	ctx, cancel := context.WithTimeoutCause(ctx, e.SetupTimeout*3/4, errors.New("time ran out"))
	defer cancel()
	addr, err := awaitPod(ctx, e.Kube, name)
	if errors.Is(err, errNoImage) {
		return err
	}
	if err != nil {
		e.Log.Warn("a pod of the checks is not ready", "pod", name, "node", p.node, "err", err)
		p.into.Prober = down{err}
		return nil
	}
	p.into.Addr, p.into.Prober = addr, e.session(p.into.Name, inPod(e.Pods, name))
	return nil
}

func (e *Env) openNodes(ctx context.Context) error {
	return verify.Each(e.Nodes, func(node *Node) error {
		if err := installNettool(ctx, e.Engine, node.Node, e.Nettool); err != nil {
			return fmt.Errorf("put nettool on node %s: %w", node.Node, err)
		}
		node.Prober = e.session(node.Name, inContainer(e.Engine, node.Node))
		at, err := serveOn(ctx, node, node.Addr, 0)
		node.Port = at.Port()
		return err
	})
}

func (e *Env) openOutside(ctx context.Context, like docker.Found) error {
	container, err := startOutside(ctx, e.Config, like)
	if err != nil {
		return err
	}
	host := Host{Name: "outside host", Addr: container.IP, Port: OutsidePort}
	host.Prober = e.session(host.Name, inContainer(e.Engine, container.ID))
	e.Outside = host
	_, err = serveOn(ctx, host, unspecified, OutsidePort)
	return err
}

func (e *Env) session(name string, shell shell) *session {
	e.stage.mu.Lock()
	defer e.stage.mu.Unlock()
	opened := newSession(e.stage.life, name, shell)
	e.stage.sessions = append(e.stage.sessions, opened)
	return opened
}

// Close implements [Field].
func (e *Env) Close(ctx context.Context) error {
	err := e.remove(ctx)
	if err != nil && interrupt.Stopped(ctx) {
		return fmt.Errorf("remove what the checks made in lab %s: %w: left are pods and Services with the label %s in namespace %s, and containers with the label %s=%s: the next lab verify removes them",
			e.Lab, interrupt.ErrStopped, runLabel, Namespace, HostLabel, e.Lab)
	}
	return err
}

// remove takes away all that Open made, as far as it came.
func (e *Env) remove(ctx context.Context) error {
	e.say("removing what the checks made")
	var sessions sync.WaitGroup
	for _, open := range slices.Clone(e.stage.sessions) {
		sessions.Go(open.Close)
	}
	sessions.Wait()
	e.stage.end()
	return e.removeAll(ctx)
}

func (e *Env) removeAll(ctx context.Context) error {
	return verify.Each([]func() error{
		func() error { return removeObjects(ctx, e.Kube) },
		func() error { return removeFromHosts(ctx, e.Config) },
	}, func(remove func() error) error { return remove() })
}

func (e *Env) say(step string) { e.Progress(verify.Progress{Step: step}) }

var unspecified = netip.IPv4Unspecified()
