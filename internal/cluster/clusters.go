// Package cluster makes, finds and removes the kind clusters that labs run on.
//
// A cluster belongs to wirelab when its node containers carry the label [LabelLab]. kind cannot label nodes, so
// each lab has a node image of its own: the real one plus labels, which containers inherit. The mark is there
// from a container's first moment, so a lab is known even when the program that was making it got killed, and
// it needs no file on this machine. Whether a cluster's making finished is a file on its first control plane.
package cluster

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/log"

	"wirelab.dev/wirelab/internal/docker"
)

// Labels on a lab's node image and node containers.
const (
	// LabelLab is the lab's name.
	LabelLab = "dev.wirelab.lab"
	// LabelProfile is the name of the profile it was made from.
	LabelProfile = "dev.wirelab.profile"
	// LabelBase is the node image that was labelled.
	LabelBase = "dev.wirelab.node-image"
	// LabelMadeFrom is the whole profile it was made from, in a form of the caller's.
	LabelMadeFrom = "dev.wirelab.made-from"

	labelKindCluster = "io.x-k8s.kind.cluster"
	labelKindRole    = "io.x-k8s.kind.role"
)

// completeFile is on the first control plane once kind finished. It is not on a tmpfs, so it survives restarts.
const completeFile = "/kind/wirelab-complete"

// ErrForeign means that a kind cluster of that name exists which wirelab did not make.
var ErrForeign = errors.New("a kind cluster of that name exists and is no lab")

// Clusters is the door to all clusters of one Docker engine.
type Clusters struct {
	engine *docker.Engine
	say    func(string) // never nil
}

// New gives access to the clusters of engine, which stays the caller's to close. What kind says of its progress
// goes to say, one short line at a time; say may be nil.
func New(engine *docker.Engine, say func(string)) *Clusters {
	if say == nil {
		say = func(string) {}
	}
	return &Clusters{engine: engine, say: say}
}

func providerWith(l log.Logger) *cluster.Provider {
	return cluster.NewProvider(cluster.ProviderWithDocker(), cluster.ProviderWithLogger(l))
}

// Cluster is a kind cluster, whole or half made.
type Cluster struct {
	Name    string
	Lab     bool              // made by wirelab
	Labels  map[string]string // of its containers; never nil
	Nodes   []Node            // sorted by name; empty when only leftovers exist
	Created time.Time         // of its oldest container
}

// Running tells whether all nodes run.
func (c *Cluster) Running() bool {
	return len(c.Nodes) > 0 && !slices.ContainsFunc(c.Nodes, func(n Node) bool { return !n.Running })
}

// KubeNodes are the nodes that run a kubelet: all but a load balancer.
func (c *Cluster) KubeNodes() []Node {
	return slices.DeleteFunc(slices.Clone(c.Nodes), func(n Node) bool { return n.Role == RoleLoadBalancer })
}

// ControlPlane is the first control-plane node, false when there is none.
func (c *Cluster) ControlPlane() (Node, bool) {
	i := slices.IndexFunc(c.Nodes, func(n Node) bool { return n.Role == RoleControlPlane })
	if i < 0 {
		return Node{}, false
	}
	return c.Nodes[i], true
}

// Complete tells whether kind finished making the cluster; its nodes need not run.
func (c *Cluster) Complete(ctx context.Context) (bool, error) {
	cp, ok := c.ControlPlane()
	if !ok {
		return false, nil
	}
	return cp.engine.HasFile(ctx, cp.Name, completeFile)
}

// List lists every kind cluster of the engine, labs and others, sorted by name.
func (c *Clusters) List(ctx context.Context) ([]*Cluster, error) {
	found, err := c.engine.Containers(ctx, labelKindCluster)
	if err != nil {
		return nil, err
	}
	byName := map[string]*Cluster{}
	for _, f := range found {
		name := f.Labels[labelKindCluster]
		cl := byName[name]
		if cl == nil {
			cl = &Cluster{Name: name, Labels: f.Labels, Created: f.Created}
			byName[name] = cl
		}
		cl.add(f, c.engine)
	}
	byItsName := func(a, b *Cluster) int { return strings.Compare(a.Name, b.Name) }
	return slices.SortedFunc(maps.Values(byName), byItsName), nil
}

func (cl *Cluster) add(f docker.Found, e *docker.Engine) {
	// kind's load balancer runs an image of its own, without our labels: one labelled node is enough, as kind
	// never adds nodes to a cluster that exists.
	if f.Labels[LabelLab] == cl.Name {
		cl.Lab, cl.Labels = true, f.Labels
	}
	if f.Created.Before(cl.Created) {
		cl.Created = f.Created
	}
	cl.Nodes = append(cl.Nodes, Node{
		Name: f.Name, Role: f.Labels[labelKindRole], Network: f.Network, IP: f.IP, Running: f.Running, Paused: f.Paused, cluster: cl.Name, engine: e,
		published: f.Published,
	})
}

// Find gives the cluster of that name, nil when there is none.
func (c *Clusters) Find(ctx context.Context, name string) (*Cluster, error) {
	all, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, cl := range all {
		if cl.Name == name {
			return cl, nil
		}
	}
	return nil, nil
}

// Down are the nodes that do not run.
func (c *Cluster) Down() []Node {
	return slices.DeleteFunc(slices.Clone(c.Nodes), func(n Node) bool { return n.Running })
}

// Start starts nodes that are stopped, as after a restart of the machine, and resumes those that are paused.
func (c *Clusters) Start(ctx context.Context, cl *Cluster) error {
	for _, n := range cl.Nodes {
		if n.Running {
			continue
		}
		act := c.engine.Start
		if n.Paused {
			act = c.engine.Unpause
		}
		if err := act(ctx, n.Name); err != nil {
			return err
		}
	}
	return nil
}
