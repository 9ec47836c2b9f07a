package cluster

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"sigs.k8s.io/kind/pkg/cluster"

	"wirelab.dev/wirelab/internal/interrupt"
)

// Spec is a cluster to make.
type Spec struct {
	Name string
	// Config is the kind configuration (v1alpha4 YAML); its nodes' image is [NodeTag] of the name.
	Config []byte
	// Base is the node image, present in the engine.
	Base string
	// Labels go onto the nodes besides LabelLab and LabelBase.
	Labels map[string]string
	// Retain leaves what was made when making is interrupted.
	Retain bool
	// Export says which kubeconfig gets the cluster's context.
	Export Export
	// Booted is called once, when all nodes have booted and are there to stay.
	Booted func()
}

// removeDeadline bounds the wait for kind to notice that its containers are gone.
const removeDeadline = 2 * time.Minute

// NodeTag is the tag of a lab's own node image.
func NodeTag(name string) string { return "wirelab/lab-" + name + ":node" }

// Create makes the cluster and returns once its API server answers and all nodes have joined; they are not Ready
// before a network is installed. The kubeconfig that Export names then has the context kind-<name>.
// On error the caller removes with Delete what was made, or leaves it: whoever uses the cluster already, while it is
// being made, shall hear of the error before the cluster goes away. An existing cluster of the name is an error.
// Nodes that kind gave up while they booted are made once more; when they are late again, the error wraps [ErrTooBusy].
func (c *Clusters) Create(ctx context.Context, s Spec) error {
	labels := map[string]string{}
	maps.Copy(labels, s.Labels)
	labels[LabelLab], labels[LabelBase] = s.Name, s.Base
	if err := c.engine.LabelImage(ctx, s.Base, NodeTag(s.Name), labels); err != nil {
		return err
	}
	b := boot{
		create: func(ctx context.Context) error { return c.create(ctx, s) },
		remove: func(ctx context.Context) error { return c.removeAll(ctx, s.Name) },
		ended:  func(ctx context.Context) ([]string, error) { return c.endedNodes(ctx, s.Name) },
		say:    c.say,
	}
	if err := b.run(ctx); err != nil {
		return fmt.Errorf("create cluster %q: %w", s.Name, err)
	}
	if err := c.ExportKubeConfig(ctx, s.Name, s.Export); err != nil {
		return err
	}
	return c.markComplete(ctx, s.Name)
}

// create runs kind, whose Create takes no context. When ctx ends, the cluster's containers are removed from under
// it: its next docker command then fails and it returns. With Retain there is no such lever without destroying
// what is to be kept, so the call is left behind; the caller is about to exit.
func (c *Clusters) create(ctx context.Context, s Spec) error {
	// kind writes a kubeconfig as it goes, and not with the care that the user's deserves: it gets a file of its own.
	scratch, err := os.MkdirTemp("", "wirelab-kind-*")
	if err != nil {
		return fmt.Errorf("make a folder for kind: %w", err)
	}
	defer os.RemoveAll(scratch)
	provider := providerWith(newLogger(afterBoot(c.say, s.Booted)))
	done := make(chan error, 1)
	go func() {
		done <- provider.Create(s.Name,
			cluster.CreateWithRawConfig(s.Config),
			cluster.CreateWithKubeconfigPath(filepath.Join(scratch, "kubeconfig")),
			// kind's own clean-up would race with the caller's, which also catches late containers.
			cluster.CreateWithRetain(true),
			cluster.CreateWithDisplayUsage(false), cluster.CreateWithDisplaySalutation(false))
	}()
	select {
	case err := <-done:
		if err != nil {
			return explain(err)
		}
		return nil
	case <-ctx.Done():
	}
	if s.Retain {
		return ctx.Err()
	}
	cctx, cancel := interrupt.Cleanup(ctx, removeDeadline)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		// An error here is no reason to stop: Delete runs again afterwards and reports.
		_ = c.removeNodes(cctx, s.Name)
		select {
		case <-done:
			return ctx.Err()
		case <-cctx.Done():
			return ctx.Err() // kind is left behind; the caller is about to exit
		case <-tick.C:
		}
	}
}

func (c *Clusters) markComplete(ctx context.Context, name string) error {
	cl, err := c.Find(ctx, name)
	if err != nil {
		return err
	}
	if cl == nil {
		return fmt.Errorf("cluster %q was removed while it was being made", name)
	}
	cp, ok := cl.ControlPlane()
	if !ok {
		return fmt.Errorf("cluster %q has no control plane", name)
	}
	return c.engine.WriteFile(ctx, cp.Name, completeFile, 0o644, []byte(time.Now().UTC().Format(time.RFC3339)+"\n"))
}
