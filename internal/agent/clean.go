package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/agent/config"
)

// Clean removes all that wirelab can have made on a node: the CNI
// configuration first, so that no pod is started on half a network, then the
// datapath, then the plugin and the run directory. It needs nothing to be
// there, and refuses while an agent runs.
func Clean(ctx context.Context, paths config.Paths, log *slog.Logger) error {
	lock, err := lockNode(paths.Lock())
	if errors.Is(err, errLocked) {
		return fmt.Errorf("clean the node: %w and would undo it; uninstall it first (helm uninstall)", err)
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	return clean(ctx, paths, log)
}

// clean is Clean for who holds the lock.
func clean(ctx context.Context, paths config.Paths, log *slog.Logger) error {
	files := newCNIFiles(paths)
	errs := []error{
		files.removeConf(),
		datapath.Clean(ctx, datapath.Config{HostRoot: paths.HostRoot, BPFFS: paths.BPFFS, Proc: paths.Proc}, log),
		files.removePlugin(),
		cleanRunDir(paths),
	}
	return errors.Join(errs...)
}

// cleanRunDir empties the run directory and removes it where that can be
// done: in the agent's own container it is a mount point, so the node's view
// of it is tried, too.
func cleanRunDir(paths config.Paths) error {
	var errs []error
	for _, path := range []string{paths.AgentSocket(), paths.CNISocket(), paths.Lock()} {
		errs = append(errs, removeFile(path))
	}
	if os.Remove(paths.RunDir) != nil && paths.HostRoot != "" {
		os.Remove(filepath.Join(paths.HostRoot, paths.RunDir)) //nolint:errcheck // an empty directory may stay
	}
	return errors.Join(errs...)
}

// cleanUninstalled cleans the node as the agent's last act.
func (a *Agent) cleanUninstalled(ctx context.Context) error {
	if n := a.node.Load(); n != nil {
		if err := n.dp.Close(); err != nil {
			a.log.Warn("close the datapath", "err", err)
		}
	}
	if err := clean(ctx, a.cfg.Paths, a.log); err != nil {
		return fmt.Errorf("clean the node: %w", err)
	}
	// The roles usually went along with the DaemonSet; the condition then
	// stays, and the kubelet's own reports the missing network.
	if err := a.condition(nil).clean(ctx); err != nil {
		a.log.Info("left the node's condition in place", "err", err)
	}
	a.log.Info("the node is clean")
	return nil
}
