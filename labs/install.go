package labs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/charts"
	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/internal/release"
	"wirelab.dev/wirelab/labs/demo"
	"wirelab.dev/wirelab/profiles"
)

// Names of what wirelab installs in a cluster.
const (
	SystemNamespace = metav1.NamespaceSystem
	releaseName     = "wirelab"
	agentName       = "wirelab-agent" // DaemonSet, and the value of the pods' app.kubernetes.io/name
	agentContainer  = "agent"
	configName      = "wirelab-config" // ConfigMap that tells the agents their settings
	configFile      = "config.yaml"
	operatorName    = "wirelab-operator" // Deployment
	relayName       = "wirelab-relay"    // Deployment, where the profile has it
	coreDNSName     = "coredns"          // Deployment, of kubeadm's and k3s'
	agentBinary     = "/usr/bin/wirelab-agent"
)

// nodesTimeout is how long nodes may take to boot after kind began; apiTimeout how long the first API server may take
// after that. Both take seconds; kind gives up on its own when something is wrong.
const (
	nodesTimeout = 5 * time.Minute
	apiTimeout   = 5 * time.Minute
	askTimeout   = 10 * time.Second // for an agent to say how it is
	pollPause    = 200 * time.Millisecond
)

// loadImages writes the images and loads them into the nodes as they come up.
func (u *up) loadImages(ctx context.Context, say func(string)) (string, error) {
	var err error
	if u.programs, err = buildPrograms(u.Profile); err != nil {
		return "", err
	}
	say("waiting for nodes")
	nodes, err := u.bootedNodes(ctx)
	if err != nil {
		return "", err
	}
	say("loading into nodes")
	refs := u.programs.refs()
	// Workers come last: they wait for the control plane, which has enough to do meanwhile.
	for _, role := range []string{cluster.RoleControlPlane, cluster.RoleWorker} {
		if err := u.load(ctx, slices.DeleteFunc(slices.Clone(nodes), func(n cluster.Node) bool { return n.Role != role }), refs); err != nil {
			return "", err
		}
	}
	return strings.Join(refs, ", "), nil
}

// load tries again for a while: kind may restart containerd on a node after having changed its settings.
func (u *up) load(ctx context.Context, nodes []cluster.Node, refs []string) error {
	deadline := time.Now().Add(time.Minute)
	for {
		err := u.clusters.LoadImages(ctx, nodes, refs, u.programs.archive)
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// bootedNodes waits until all nodes of the lab are there and their containerd answers.
func (u *up) bootedNodes(ctx context.Context) ([]cluster.Node, error) {
	select {
	case <-u.booted:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, nodesTimeout, fmt.Errorf("the nodes did not boot within %s", nodesTimeout))
	defer cancel()
	for {
		c, err := u.clusters.Find(ctx, u.Name)
		if err != nil {
			return nil, err
		}
		if c != nil && u.ownNodes(c) {
			nodes := c.KubeNodes()
			if allAnswer(ctx, nodes) {
				return nodes, nil
			}
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// ownNodes tells whether these are the nodes to work on, not those an interrupted run left.
func (u *up) ownNodes(c *cluster.Cluster) bool {
	if u.existing == nil && u.leftover && !u.result.Created {
		return false
	}
	return c.Running() && len(c.KubeNodes()) == u.Profile.Nodes()
}

func allAnswer(ctx context.Context, nodes []cluster.Node) bool {
	g, gctx := errgroup.WithContext(ctx)
	for _, n := range nodes {
		g.Go(func() error { _, err := n.Images(gctx); return err })
	}
	return g.Wait() == nil
}

// connect waits until the lab's API server answers and lets us in.
func (u *up) connect(ctx context.Context) (*kube.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	c, err := u.reach(ctx)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.kube = c
	return c, nil
}

// reach is connect for as long as ctx.
func (u *up) reach(ctx context.Context) (*kube.Client, error) {
	for {
		c, err := u.tryConnect(ctx)
		if err == nil {
			return c, nil
		}
		if waitErr := pause(ctx); waitErr != nil {
			return nil, errors.Join(fmt.Errorf("reach the API server: %w", waitErr), err)
		}
	}
}

func (u *up) tryConnect(ctx context.Context) (*kube.Client, error) {
	cfg, err := u.clusters.KubeConfig(ctx, u.Name)
	if err != nil {
		return nil, err
	}
	c, err := kube.New(cfg)
	if err != nil {
		return nil, err
	}
	// The server answers before kubeadm has given its own user any rights.
	_, err = c.CoreV1().Namespaces().Get(ctx, SystemNamespace, metav1.GetOptions{})
	return c, err
}

// install writes down what the lab is to be and installs the network.
func (u *up) install(ctx context.Context, say func(string)) (string, error) {
	say("waiting for the API server")
	c, err := u.connect(ctx)
	if err != nil {
		return "", err
	}
	say("installing the chart")
	if err := u.record(ctx, c); err != nil {
		return "", err
	}
	change, err := ensureRelease(ctx, c, u.Profile, u.programs, profiles.Install{Name: u.Name})
	return string(change), err
}

// ensureRelease makes the cluster's network what the profile says. in is what else the chart has to know, but the images.
func ensureRelease(ctx context.Context, c *kube.Client, p *profiles.Profile, i programs, in profiles.Install) (release.Change, error) {
	spec, err := releaseSpec(p, i, in)
	if err != nil {
		return "", err
	}
	return release.Ensure(ctx, c.Config, spec)
}

func releaseSpec(p *profiles.Profile, i programs, in profiles.Install) (release.Spec, error) {
	chart, err := release.LoadChart(charts.FS, charts.Wirelab)
	if err != nil {
		return release.Spec{}, err
	}
	in.Agent = profiles.Image{Repository: i.agent.Repository, Tag: i.agent.Tag}
	in.Operator = profiles.Image{Repository: i.operator.Repository, Tag: i.operator.Tag}
	if i.relay != nil {
		in.Relay = profiles.Image{Repository: i.relay.Repository, Tag: i.relay.Tag}
	}
	return release.Spec{Name: releaseName, Namespace: SystemNamespace, Chart: chart, Values: p.Values(in)}, nil
}

// record writes down the profile in force where the cluster is asked for it and where Docker alone is.
func (u *up) record(ctx context.Context, c *kube.Client) error {
	if err := writeRecord(ctx, c, u.Name, u.Profile); err != nil {
		return err
	}
	y, err := u.Profile.YAML()
	if err != nil {
		return err
	}
	cl, err := u.found(ctx)
	if err != nil {
		return err
	}
	return cl.SetProfile(ctx, y)
}

func (u *up) deployDemo(ctx context.Context, _ func(string)) (string, error) {
	return deployDemo(ctx, u.kube, u.Profile, u.programs)
}

// deployDemo makes the demo what the profile says, which may be nothing.
func deployDemo(ctx context.Context, c *kube.Client, p *profiles.Profile, i programs) (string, error) {
	d := p.Demo
	if !d.Enabled {
		return "none", demo.Remove(ctx, c)
	}
	// Pods need their namespace's service account, which a controller makes shortly after the namespace.
	if err := awaitServiceAccount(ctx, c); err != nil {
		return "", err
	}
	return fmt.Sprintf("service %s:%d, node port %d", demo.Name, d.Port, d.NodePort), applyDemo(ctx, c, p, i)
}

func applyDemo(ctx context.Context, c *kube.Client, p *profiles.Profile, i programs) error {
	d := p.Demo
	return demo.Apply(ctx, c, demo.Config{
		Image: i.nettool.Ref(), Port: d.Port, TargetPort: d.TargetPort, NodePort: d.NodePort,
	})
}

func awaitServiceAccount(ctx context.Context, c *kube.Client) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	for {
		_, err := c.CoreV1().ServiceAccounts(demo.Namespace).Get(ctx, "default", metav1.GetOptions{})
		if err == nil || !apierrors.IsNotFound(err) {
			return err
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("wait for service account %s/default: %w", demo.Namespace, err)
		}
	}
}

// pause waits a moment between two looks, or less when ctx ends; the error is its cause then.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(pollPause):
		return nil
	}
}
