package labs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/docker"
	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/internal/nearest"
	"wirelab.dev/wirelab/profiles"
)

// Lab is a lab that is up, to look at or to work with.
type Lab struct {
	Name    string
	Profile *profiles.Profile // the one in force
	// MadeBy is the version of the lab command that set it up last; may be empty.
	MadeBy  string
	Kube    *kube.Client
	Nodes   []cluster.Node // those with a kubelet, sorted by name, at least one
	Cluster *cluster.Cluster
	Engine  *docker.Engine

	say func(string) // is told what is waited for; may be nil
}

// Close gives up the lab's connections.
func (l *Lab) Close() error { return l.Engine.Close() }

// Open finds a lab that is up and connects to it. An empty name means the only lab there is. The error wraps
// [ErrNotFound] when there is none. say, which may be nil, is told what is waited for when that takes longer than a second,
// here and in what is done with the lab. The caller closes the lab.
func Open(ctx context.Context, name string, say func(string)) (*Lab, error) {
	over := telling(say, "waiting for Docker")
	e, err := docker.Connect(ctx)
	over()
	if err != nil {
		return nil, err
	}
	l, err := open(ctx, e, name, say)
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return l, nil
}

func open(ctx context.Context, e *docker.Engine, name string, say func(string)) (*Lab, error) {
	cs := cluster.New(e, nil)
	c, err := findLab(ctx, cs, name)
	if err != nil {
		return nil, err
	}
	complete, err := c.Complete(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case !complete:
		return nil, halfMade(ctx, c)
	case unreachable(c) != "":
		return nil, fmt.Errorf("lab %q cannot be asked: %s: lab up %s --name %s starts what is stopped and resumes what is paused", c.Name, unreachable(c), profileName(ctx, c), c.Name)
	}
	cfg, err := cs.KubeConfig(ctx, c.Name)
	if err != nil {
		return nil, err
	}
	k, err := kube.New(cfg)
	if err != nil {
		return nil, err
	}
	p, by, err := awaitRecord(ctx, k, c, say)
	if err != nil {
		return nil, err
	}
	return &Lab{Name: c.Name, Profile: p, MadeBy: by, Kube: k, Nodes: c.KubeNodes(), Cluster: c, Engine: e, say: say}, nil
}

// halfMade is the error of a lab whose making was cut off.
func halfMade(ctx context.Context, c *cluster.Cluster) error {
	return fmt.Errorf("lab %q is half made: finish it with lab up %s --name %s, or remove it with lab down %s", c.Name, profileName(ctx, c), c.Name, c.Name)
}

// unreachable says which nodes keep the API server from being reached; empty when none does. A lab with another node down
// can be looked at.
func unreachable(c *cluster.Cluster) string {
	var down []string
	serves := false
	for _, n := range c.Nodes {
		switch why := n.Down(); {
		case why == "" && n.Role == cluster.RoleControlPlane:
			serves = true
		case why != "" && n.Role != cluster.RoleWorker:
			down = append(down, "node "+n.Name+" "+why)
		}
		if n.Down() != "" && n.Role == cluster.RoleLoadBalancer {
			return "node " + n.Name + " " + n.Down()
		}
	}
	if serves {
		return ""
	}
	if len(down) == 0 {
		return "it has no control plane"
	}
	return strings.Join(down, ", ")
}

// startingPatience is how long an API server may take to start: until it is through, it refuses connections, or the rights
// of everybody. One whose machine is busy may not answer in time, either.
const startingPatience = time.Minute

// awaitRecord reads the record, again for a while where the API server is starting.
func awaitRecord(ctx context.Context, k *kube.Client, c *cluster.Cluster, say func(string)) (*profiles.Profile, string, error) {
	defer telling(say, "waiting for the API server of lab "+c.Name)()
	deadline := time.Now().Add(startingPatience)
	for {
		p, by, err := readRecord(ctx, k, c)
		if err == nil || !starting(err) {
			return p, by, err
		}
		if time.Now().After(deadline) {
			return nil, "", fmt.Errorf("waited %s for the API server of lab %q: %w", startingPatience, c.Name, err)
		}
		if err := pause(ctx); err != nil {
			return nil, "", err
		}
	}
}

// starting tells whether an error is one of an API server that is on its way up, or too busy.
func starting(err error) bool {
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return true
	}
	return apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) || apierrors.IsForbidden(err) || apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err) || apierrors.IsTooManyRequests(err) ||
		errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// findLab finds a lab by name, or the only one.
func findLab(ctx context.Context, cs *cluster.Clusters, name string) (*cluster.Cluster, error) {
	all, err := cs.List(ctx)
	if err != nil {
		return nil, err
	}
	return chooseLab(all, name)
}

// chooseLab is findLab among all clusters of this machine.
func chooseLab(all []*cluster.Cluster, name string) (*cluster.Cluster, error) {
	var names []string
	var only *cluster.Cluster
	for _, c := range all {
		if c.Name == name && !c.Lab {
			return nil, foreign(name)
		}
		if !c.Lab {
			continue
		}
		if c.Name == name {
			return c, nil
		}
		only = c
		names = append(names, c.Name)
	}
	switch {
	case name == "" && len(names) == 1:
		return only, nil
	case len(names) == 0 && name == "":
		return nil, fmt.Errorf("%w: there are none: make one with lab up kubeproxy", ErrNotFound)
	case len(names) == 0:
		return nil, whichError(fmt.Sprintf("%s: %q: there are none: make one with lab up kubeproxy", ErrNotFound, name))
	case name == "":
		return nil, whichError(fmt.Sprintf("which lab: there are %s: say it with --name, as in --name %s", strings.Join(names, ", "), names[0]))
	}
	return nil, whichError(fmt.Sprintf("%s: %q: %s", ErrNotFound, name, thereAre(name, names)))
}

// whichError is an [ErrWhich] and an [ErrNotFound] for those who ask.
type whichError string

func (e whichError) Error() string { return string(e) }

func (whichError) Unwrap() []error { return []error{ErrWhich, ErrNotFound} }

// thereAre lists what there is, behind the one of it that was probably meant.
func thereAre(word string, names []string) string {
	list := "there are " + strings.Join(names, ", ")
	if near := nearest.Of(word, names); near != "" {
		return "did you mean " + near + "? " + list
	}
	return list
}
