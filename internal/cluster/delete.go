package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"wirelab.dev/wirelab/internal/kubeconfig"
)

// Delete removes a lab's cluster, whole or half made: nodes, volumes, its labelled node image and its context in every
// kubeconfig that was given it. Nothing there is no error. A cluster that wirelab did not make is left alone: [ErrForeign].
func (c *Clusters) Delete(ctx context.Context, name string) error {
	cl, err := c.Find(ctx, name)
	if err != nil {
		return err
	}
	if cl != nil && !cl.Lab {
		return fmt.Errorf("%w: %q", ErrForeign, name)
	}
	// What nodes alone know goes before them: when this is cut off, it can be done again.
	named, knownErr := exports(ctx, cl)
	namedErr := forget(ctx, name, named)
	// Then the image: a docker command that is still under way for this lab cannot make another node.
	imgErr := c.engine.RemoveImage(ctx, NodeTag(name))
	nodeErr := c.removeAll(ctx, name)
	cfgErr := forget(ctx, name, []kubeconfig.Files{kubeconfig.FromEnv()})
	if nodeErr == nil { // the image may have lost no more than its tag, to a node that was just being made
		imgErr = c.removeImages(ctx, name)
	}
	return errors.Join(nodeErr, imgErr, knownErr, namedErr, cfgErr)
}

// HasLeftovers tells whether a lab that has no nodes left something behind: its labelled image or the helper
// container that labelled it.
func (c *Clusters) HasLeftovers(ctx context.Context, name string) (bool, error) {
	if images, err := c.engine.ImagesWith(ctx, LabelLab+"="+name); err != nil || len(images) > 0 {
		return len(images) > 0, err
	}
	found, err := c.engine.Containers(ctx, LabelLab+"="+name)
	return len(found) > 0, err
}

// Leftovers names what is there of a lab: containers, node image, context in kubeconfigs.
func (c *Clusters) Leftovers(ctx context.Context, name string) ([]string, error) {
	var out []string
	for _, label := range []string{LabelLab + "=" + name, labelKindCluster + "=" + name} {
		found, err := c.engine.Containers(ctx, label)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			if what := "container " + f.Name; !slices.Contains(out, what) {
				out = append(out, what)
			}
		}
	}
	images, err := c.engine.ImagesWith(ctx, LabelLab+"="+name)
	if err != nil {
		return nil, err
	}
	if len(images) > 0 {
		out = append(out, "image "+NodeTag(name))
	}
	if kubeconfig.FromEnv().Has(ContextName(name)) {
		out = append(out, "context "+ContextName(name))
	}
	cl, err := c.Find(ctx, name)
	if err != nil {
		return nil, err
	}
	named, err := exports(ctx, cl)
	if err != nil {
		return nil, err
	}
	for _, files := range named {
		if files.Has(ContextName(name)) {
			out = append(out, "context "+ContextName(name)+" in "+files.Target())
		}
	}
	return out, nil
}

// removeAll removes containers until none has been seen for a while: a docker run that was under way when the
// making was interrupted can still bring one after the first look.
func (c *Clusters) removeAll(ctx context.Context, name string) error {
	const quiet, pause = 3, 150 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for seen := 0; seen < quiet; {
		found, err := c.engine.Containers(ctx, LabelLab+"="+name)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			seen++
		} else {
			seen = 0
			if err := c.removeNodes(ctx, name); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove nodes of lab %q: %w", name, ctx.Err())
		case <-time.After(pause):
		}
	}
	return nil
}

// removeImages removes every image with the lab's mark.
func (c *Clusters) removeImages(ctx context.Context, name string) error {
	images, err := c.engine.ImagesWith(ctx, LabelLab+"="+name)
	errs := []error{err}
	for _, id := range images {
		errs = append(errs, c.engine.RemoveImage(ctx, id))
	}
	return errors.Join(errs...)
}

// removeNodes removes, at once, every container with the lab's mark and, in a cluster with the mark, kind's load
// balancer, which runs an image of its own.
func (c *Clusters) removeNodes(ctx context.Context, name string) error {
	ours, err := c.engine.Containers(ctx, LabelLab+"="+name)
	if err != nil {
		return err
	}
	lb, err := c.engine.Containers(ctx, labelKindCluster+"="+name, labelKindRole+"="+RoleLoadBalancer)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, f := range append(ours, lb...) {
		g.Go(func() error { return c.engine.RemoveContainer(gctx, f.ID) })
	}
	return g.Wait()
}
