package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"
	"sigs.k8s.io/kind/pkg/exec"
)

// Images lists the names under which a node's containerd holds images, fully qualified.
func (n Node) Images(ctx context.Context) ([]string, error) {
	list, err := n.ctr(ctx, "images", "list", "--quiet")
	return strings.Fields(list), err
}

// LoadImages loads images into the nodes that lack them, into all at once. refs are their short names such as
// wirelab/agent:abc; open gives a docker archive of some of them, once per node that lacks any.
func (c *Clusters) LoadImages(ctx context.Context, to []Node, refs []string, open func(refs []string) (io.ReadCloser, error)) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, n := range to {
		g.Go(func() error {
			have, err := n.Images(gctx)
			missing := slices.DeleteFunc(slices.Clone(refs), func(ref string) bool { return slices.Contains(have, "docker.io/"+ref) })
			if err != nil || len(missing) == 0 {
				return err
			}
			return c.loadInto(gctx, n, strings.Join(missing, ", "), func() (io.ReadCloser, error) { return open(missing) })
		})
	}
	return g.Wait()
}

// importDeadline is how long a node may take for an archive of images.
const importDeadline = 15 * time.Minute

// Import loads an archive of images into a node, unless it has all of them already. images are their identities, the digests of
// their configurations, by their short names. open gives the archive.
func (c *Clusters) Import(ctx context.Context, n Node, images map[string]string, open func() (io.ReadCloser, error)) (had bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, importDeadline, fmt.Errorf("node %s did not take it within %s", n.Name, importDeadline))
	defer cancel()
	missing, err := n.lacking(ctx, images)
	if err != nil || len(missing) == 0 {
		return err == nil, err
	}
	if err := c.loadInto(ctx, n, strings.Join(missing, ", "), open); err != nil {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		return false, err
	}
	if missing, err = n.lacking(ctx, images); err == nil && len(missing) > 0 {
		err = fmt.Errorf("it has read the archive and has no image %s", strings.Join(missing, ", "))
	}
	return false, err
}

// lacking are those of images, identities by short names, that the node does not have, sorted.
func (n Node) lacking(ctx context.Context, images map[string]string) ([]string, error) {
	var out []string
	for _, ref := range slices.Sorted(maps.Keys(images)) {
		id, err := n.imageID(ctx, ref)
		if err != nil {
			return nil, err
		}
		if id != images[ref] {
			out = append(out, ref)
		}
	}
	return out, nil
}

// imageID is the digest of the configuration of the image that a node has under a short name, empty where it has none or more than
// one, for several platforms. Not every node has crictl.
func (n Node) imageID(ctx context.Context, ref string) (string, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return "", fmt.Errorf("look for image %s on node %s: %w", ref, n.Name, err)
	}
	list, err := n.ctr(ctx, "images", "list", "name=="+named.String())
	if err != nil {
		return "", err
	}
	manifest := targetIn(list, named.String())
	if manifest == "" {
		return "", nil
	}
	raw, err := n.ctr(ctx, "content", "get", manifest)
	if err != nil {
		return "", err
	}
	var m struct {
		Config struct{ Digest string }
	}
	if err := json.Unmarshal([]byte(raw), &m); err != nil {
		return "", fmt.Errorf("read manifest %s of node %s: %w", manifest, n.Name, err)
	}
	return m.Config.Digest, nil
}

// targetIn finds in what ctr images list prints the digest of the manifest, or index, of an image by its whole name; empty where
// it is not there.
func targetIn(list, name string) string {
	for line := range strings.Lines(list) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == name {
			return f[2]
		}
	}
	return ""
}

// ctr asks a node's containerd.
func (n Node) ctr(ctx context.Context, args ...string) (string, error) {
	out, err := n.Run(ctx, nil, append([]string{"ctr", "--namespace=k8s.io"}, args...)...)
	if err != nil {
		return "", fmt.Errorf("ask containerd of node %s: %w", n.Name, err)
	}
	return string(out), nil
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
		return fmt.Errorf("load %s into node %s: %w", ref, n.Name, explain(err))
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
		all, err := providerWith(newLogger(c.say)).ListNodes(name)
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
