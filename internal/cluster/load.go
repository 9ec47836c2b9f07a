package cluster

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

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
	all, err := c.provider().ListNodes(n.cluster)
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

// boundNode runs every command under one context: kind's helpers call Command, which knows none.
type boundNode struct {
	nodes.Node
	ctx context.Context //nolint:containedctx // that is its purpose
}

func (b boundNode) Command(cmd string, args ...string) exec.Cmd {
	return b.CommandContext(b.ctx, cmd, args...)
}
