package cluster

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"
	"sigs.k8s.io/kind/pkg/exec"
)

// Images lists the names under which a node's containerd holds images, fully qualified.
func (n Node) Images(ctx context.Context) ([]string, error) {
	cmd := []string{"ctr", "--namespace=k8s.io", "images", "list", "--quiet"}
	r, err := n.Run(ctx, cmd...)
	if err == nil {
		err = r.Err(cmd...)
	}
	if err != nil {
		return nil, fmt.Errorf("list images of node %s: %w", n.Name, err)
	}
	return strings.Fields(string(r.Stdout)), nil
}

// LoadImage loads an image into every node that lacks it, all at once. ref is its short name such as
// wirelab/agent:abc; open gives its docker archive, once per node.
func (c *Clusters) LoadImage(ctx context.Context, to []Node, ref string, open func() (io.ReadCloser, error)) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, n := range to {
		g.Go(func() error {
			have, err := n.Images(gctx)
			if err != nil || slices.Contains(have, "docker.io/"+ref) {
				return err
			}
			return c.loadInto(gctx, n, ref, open)
		})
	}
	return g.Wait()
}

func (c *Clusters) loadInto(ctx context.Context, n Node, ref string, open func() (io.ReadCloser, error)) error {
	kn, err := c.kindNode(ctx, n)
	if err != nil {
		return err
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := nodeutils.LoadImageArchive(kn, r); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("load image %s into node %s: %w", ref, n.Name, explain(err))
	}
	return nil
}

// kindNode finds kind's own handle of a node, made to honour ctx.
func (c *Clusters) kindNode(ctx context.Context, n Node) (nodes.Node, error) {
	all, err := c.kindNodes(ctx, n.cluster)
	if err != nil {
		return nil, fmt.Errorf("list nodes of lab %q: %w", n.cluster, explain(err))
	}
	for _, kn := range all {
		if kn.String() == n.Name {
			return boundNode{kn, ctx}, nil
		}
	}
	return nil, fmt.Errorf("node %s of lab %q is gone", n.Name, n.cluster)
}

// listDeadline bounds kind's look at its nodes, for which it runs a docker command.
const listDeadline = 30 * time.Second

// kindNodes are kind's own handles of a cluster's nodes. kind knows no context, so a call that takes too long is left behind.
func (c *Clusters) kindNodes(ctx context.Context, name string) ([]nodes.Node, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, listDeadline, fmt.Errorf("the docker command did not end within %s", listDeadline))
	defer cancel()
	type answer struct {
		all []nodes.Node
		err error
	}
	done := make(chan answer, 1)
	go func() {
		all, err := c.provider().ListNodes(name)
		done <- answer{all, err}
	}()
	select {
	case a := <-done:
		return a.all, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// boundNode runs every command under one context: kind's helpers call Command, which knows none.
type boundNode struct {
	nodes.Node
	ctx context.Context //nolint:containedctx // that is its purpose
}

func (b boundNode) Command(cmd string, args ...string) exec.Cmd {
	return b.CommandContext(b.ctx, cmd, args...)
}
