package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"wirelab.dev/wirelab/internal/kubeconfig"
)

// exportsFile is on the first control plane. Like [completeFile] it survives restarts.
const exportsFile = "/kind/wirelab-kubeconfigs.json"

// Export says where the context of a cluster goes.
type Export struct {
	// File is the one kubeconfig to write to; empty: the user's.
	File string
	// KeepCurrent leaves the current context of that kubeconfig as it is.
	KeepCurrent bool
}

func (e Export) files() kubeconfig.Files {
	if e.File == "" {
		return kubeconfig.FromEnv()
	}
	return kubeconfig.Files{e.File}
}

// ExportKubeConfig puts the cluster into a kubeconfig. A file of its own is written down in the cluster first, so that
// [Clusters.Delete] finds it whenever this is cut off.
func (c *Clusters) ExportKubeConfig(ctx context.Context, name string, to Export) error {
	b, err := c.KubeConfig(ctx, name)
	if err == nil && to.File != "" {
		err = c.rememberExport(ctx, name, to.File)
	}
	if err == nil {
		err = to.files().Add(ctx, ContextName(name), b, !to.KeepCurrent)
	}
	if err != nil {
		return fmt.Errorf("put context %s into the kubeconfig: %w", ContextName(name), err)
	}
	return nil
}

func (c *Clusters) rememberExport(ctx context.Context, name, file string) error {
	cl, err := c.Find(ctx, name)
	if err != nil {
		return err
	}
	if cl == nil {
		return fmt.Errorf("lab %q: its nodes are gone", name)
	}
	was, err := cl.ExportedTo(ctx)
	if err != nil {
		return err
	}
	now := append(slices.DeleteFunc(slices.Clone(was), func(f string) bool { return f == file }), file)
	if slices.Equal(was, now) {
		return nil
	}
	content, err := json.Marshal(now)
	if err != nil {
		return err
	}
	cp, _ := cl.ControlPlane() // there is one: its kubeconfig has been read
	return cp.engine.WriteFile(ctx, cp.Name, exportsFile, 0o644, content)
}

// ExportedTo are the kubeconfigs, besides the user's, that were given the cluster's context, the latest last. Its nodes need
// not run.
func (cl *Cluster) ExportedTo(ctx context.Context) ([]string, error) {
	content, err := cl.readFile(ctx, exportsFile)
	if err != nil || content == nil {
		return nil, err
	}
	var files []string
	if err := json.Unmarshal(content, &files); err != nil {
		return nil, fmt.Errorf("read %s in cluster %s: %w", exportsFile, cl.Name, err)
	}
	return files, nil
}

// exports are what [Cluster.ExportedTo] names, each a kubeconfig of its own. The cluster may be nil.
func exports(ctx context.Context, cl *Cluster) (all []kubeconfig.Files, err error) {
	if cl == nil {
		return nil, nil
	}
	files, err := cl.ExportedTo(ctx)
	for _, file := range files {
		all = append(all, kubeconfig.Files{file})
	}
	return all, err
}

// forget takes the context of a cluster out of kubeconfigs, where it is in them.
func forget(ctx context.Context, name string, from []kubeconfig.Files) error {
	var errs []error
	for _, files := range from {
		if err := files.Remove(ctx, ContextName(name)); err != nil {
			errs = append(errs, fmt.Errorf("remove context %s from the kubeconfig: %w", ContextName(name), err))
		}
	}
	return errors.Join(errs...)
}
