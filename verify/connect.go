package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"wirelab.dev/wirelab/internal/docker"
	"wirelab.dev/wirelab/verify/probe"
)

const (
	// serveFor bounds the servers a run starts on nodes and outside.
	serveFor = probe.Duration(10 * time.Minute)
	// commandTimeout bounds a command on a host.
	commandTimeout = probe.Duration(10 * time.Second)
	// settleTimeout bounds the wait for Services to work everywhere: kube-proxy
	// writes its rules within a second or two, also on a busy machine.
	settleTimeout = 8 * time.Second
)

// stage is a run's things in the lab while they are made and removed.
type stage struct {
	cfg      Config
	life     context.Context // of the sessions
	end      context.CancelFunc
	mu       sync.Mutex
	sessions []*session
}

// connect lays everything out. The function it returns takes it away again.
func connect(ctx context.Context, cfg Config) (*Env, func(context.Context) error, error) {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	s := &stage{cfg: cfg, life: life, end: end}
	env, err := s.setUp(ctx)
	return env, s.remove, err
}

func (s *stage) setUp(ctx context.Context) (*Env, error) {
	s.say("looking for what an interrupted run left behind")
	if err := s.removeAll(ctx); err != nil {
		return nil, err
	}
	env := &Env{Config: s.cfg}
	var err error
	if env.Nodes, err = findNodes(ctx, s.cfg.Kube); err != nil {
		return nil, err
	}
	containers, err := containersOf(ctx, s.cfg.Engine, s.cfg.Lab)
	if err != nil {
		return nil, err
	}
	// The last by name is a worker wherever there is one.
	only := env.Nodes[len(env.Nodes)-1].Node
	s.say("making pods, Services and a host outside")
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := createAll(groupCtx, s.cfg, env.Nodes, only); err != nil {
			return err
		}
		return s.openPods(groupCtx, env)
	})
	group.Go(func() error { return s.openNodes(groupCtx, env) })
	group.Go(func() error { return s.openOutside(groupCtx, env, containers[0]) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := addNative(ctx, env); err != nil {
		return nil, err
	}
	env.settle = once(func(ctx context.Context) error { return settle(ctx, env) })
	return env, readServices(ctx, env, only)
}

// openPods waits for the pods. One that does not come up makes the checks that
// need it fail to look, and no others; the error is for what concerns all.
func (s *stage) openPods(ctx context.Context, env *Env) error {
	var pods []podPlace
	for _, node := range env.Nodes {
		pods = append(pods, podPlace{roleClient, node.Node, &node.Client}, podPlace{roleServer, node.Node, &node.Server})
	}
	if s.cfg.replaced() {
		pods = append(pods, podPlace{roleLeaver, env.Nodes[0].Node, &env.Leaver})
	}
	err := each(pods, func(p podPlace) error { return s.openPod(ctx, p) })
	if errors.Is(err, errNoImage) {
		return fmt.Errorf("the nodes do not have image %s of this version of lab: bring the lab up to date with lab up", s.cfg.Image)
	}
	return err
}

// podPlace is a pod and where its Host goes.
type podPlace struct {
	role, node string
	into       *Host
}

func (s *stage) openPod(ctx context.Context, p podPlace) error {
	name := podName(p.role, p.node)
	*p.into = Host{Name: podPrefix + p.role + "-" + p.node, Self: name, Node: p.node, Port: podPort}
	// Less than the setup as a whole, so that a pod that hangs is told of.
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.SetupTimeout*3/4, errors.New("time ran out"))
	defer cancel()
	addr, err := awaitPod(ctx, s.cfg.Kube, name)
	if errors.Is(err, errNoImage) {
		return err
	}
	if err != nil {
		s.cfg.Log.Warn("a pod of the checks is not ready", "pod", name, "node", p.node, "err", err)
		p.into.Prober = down{err}
		return nil
	}
	p.into.Addr, p.into.Prober = addr, s.session(p.into.Name, inPod(s.cfg.Pods, name))
	return nil
}

func (s *stage) openNodes(ctx context.Context, env *Env) error {
	return each(env.Nodes, func(node *Node) error {
		if err := installNettool(ctx, s.cfg.Engine, node.Node, s.cfg.Nettool); err != nil {
			return fmt.Errorf("put nettool on node %s: %w", node.Node, err)
		}
		node.Prober = s.session(node.Name, inContainer(s.cfg.Engine, node.Node))
		at, err := serveOn(ctx, node, node.Addr, 0)
		node.Port = at.Port()
		return err
	})
}

func (s *stage) openOutside(ctx context.Context, env *Env, like docker.Found) error {
	container, err := startOutside(ctx, s.cfg, like)
	if err != nil {
		return err
	}
	host := Host{Name: "outside host", Addr: container.IP, Port: outsidePort}
	host.Prober = s.session(host.Name, inContainer(s.cfg.Engine, container.ID))
	env.Outside = host
	_, err = serveOn(ctx, host, unspecified, outsidePort)
	return err
}

func (s *stage) session(name string, shell shell) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	opened := newSession(s.life, name, shell)
	s.sessions = append(s.sessions, opened)
	return opened
}

// remove takes away all that setUp made, as far as it came.
func (s *stage) remove(ctx context.Context) error {
	s.say("removing what the checks made")
	var sessions sync.WaitGroup
	for _, open := range slices.Clone(s.sessions) {
		sessions.Go(open.Close)
	}
	sessions.Wait()
	s.end()
	return s.removeAll(ctx)
}

func (s *stage) removeAll(ctx context.Context) error {
	return each([]func() error{
		func() error { return removeObjects(ctx, s.cfg.Kube) },
		func() error { return removeFromHosts(ctx, s.cfg) },
	}, func(remove func() error) error { return remove() })
}

func (s *stage) say(step string) { s.cfg.Progress(Progress{Step: step}) }

// settle waits until every node reaches every backend of both Services: rules
// for a Service come piece by piece, as its backends become ready.
func settle(caller context.Context, env *Env) error {
	ctx, cancel := context.WithTimeout(caller, settleTimeout)
	defer cancel()
	errs := each(env.Nodes, func(node *Node) error {
		for _, service := range []Service{env.Every, env.One} {
			err := poll(ctx, func(ctx context.Context) (bool, error) {
				answered, _, err := spread(ctx, node.Host, service)
				return len(answered) == len(service.Backends), err
			})
			if err != nil && ctx.Err() == nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(errs, caller.Err())
}
