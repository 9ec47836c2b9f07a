// Package release installs wirelab's chart with Helm as a library. It reads no Helm environment variables,
// settings files or caches of the user's, and needs no helm binary.
package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

// Change is what [Ensure] did.
type Change string

// What Ensure can do.
const (
	Installed Change = "installed"
	Upgraded  Change = "upgraded"
	Unchanged Change = "unchanged"
)

// Spec is a release to have.
type Spec struct {
	Name, Namespace string
	Chart           *chart.Chart
	Values          map[string]any
}

// historyLimit is how many revisions Helm keeps; a lab needs no more than to see what changed last.
const historyLimit = 5

// helmDeadline bounds single waits inside Helm; readiness is not waited for here.
const helmDeadline = time.Minute

// LoadChart reads the chart in a directory of fsys.
func LoadChart(fsys fs.FS, dir string) (*chart.Chart, error) {
	var files []*loader.BufferedFile
	err := fs.WalkDir(fsys, dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(fsys, p)
		files = append(files, &loader.BufferedFile{Name: strings.TrimPrefix(p, dir+"/"), Data: b})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read chart %s: %w", dir, err)
	}
	c, err := loader.LoadFiles(files)
	if err != nil {
		return nil, fmt.Errorf("read chart %s: %w", dir, err)
	}
	return c, nil
}

// Ensure makes the cluster's release what s says: installs it, upgrades it, or leaves it alone when chart and values
// are those of the deployed revision and all its objects exist. A release whose last change was killed half-way or
// failed is taken up again. It does not wait for anything to become ready.
func Ensure(ctx context.Context, cfg *rest.Config, s Spec) (Change, error) {
	return with(cfg, s, func(h *helm) (Change, error) { return h.ensure(ctx) })
}

// Remove uninstalls the release of a name, also one whose last change was cut off, and reports whether there was one. It
// does not wait for its pods to end.
func Remove(ctx context.Context, cfg *rest.Config, namespace, name string) (bool, error) {
	return with(cfg, Spec{Name: name, Namespace: namespace}, func(h *helm) (bool, error) { return h.remove(ctx) })
}

// Exists reports whether the cluster has a release of a name, in whatever state.
func Exists(cfg *rest.Config, namespace, name string) (bool, error) {
	return with(cfg, Spec{Name: name, Namespace: namespace}, (*helm).exists)
}

// with has Helm do something with a release.
func with[T any](cfg *rest.Config, s Spec, do func(*helm) (T, error)) (done T, err error) {
	h, err := newHelm(cfg, s)
	if err != nil {
		return done, err
	}
	if done, err = do(h); err != nil {
		return done, fmt.Errorf("release %s in %s: %w", s.Name, s.Namespace, err)
	}
	return done, nil
}

func newHelm(cfg *rest.Config, s Spec) (*helm, error) {
	h := &helm{spec: s}
	h.lost = h.lostObjects
	if err := h.cfg.Init(newGetter(cfg, s.Namespace), s.Namespace, "secret", func(string, ...any) {}); err != nil {
		return nil, fmt.Errorf("set up helm: %w", err)
	}
	return h, nil
}

type helm struct {
	cfg  action.Configuration
	spec Spec
	// lost tells whether an object of a manifest is gone from the cluster.
	lost func(manifest string) (bool, error)
}

func (h *helm) ensure(ctx context.Context) (Change, error) {
	last, err := h.cfg.Releases.Last(h.spec.Name)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return h.install(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("read history: %w", err)
	}
	switch st := last.Info.Status; {
	case st == release.StatusUninstalled || st == release.StatusUninstalling:
		if err := h.uninstall(); err != nil {
			return "", fmt.Errorf("finish the interrupted uninstall: %w", err)
		}
		return h.install(ctx)
	case st.IsPending():
		// Whoever changed it is gone: a lab has one owner at a time, the caller's lock says so.
		last.SetStatus(release.StatusFailed, "interrupted")
		if err := h.cfg.Releases.Update(last); err != nil {
			return "", fmt.Errorf("take up the interrupted revision %d: %w", last.Version, err)
		}
	case st == release.StatusDeployed:
		same, err := h.same(ctx, last)
		if err != nil {
			return "", err
		}
		if same {
			return Unchanged, nil
		}
	}
	return h.upgrade(ctx)
}

func (h *helm) install(ctx context.Context) (Change, error) {
	i := action.NewInstall(&h.cfg)
	i.ReleaseName, i.Namespace, i.Timeout = h.spec.Name, h.spec.Namespace, helmDeadline
	i.DisableOpenAPIValidation = true
	// Objects that a killed first install left belong to this release or to nobody.
	i.TakeOwnership = true
	if _, err := i.RunWithContext(ctx, h.spec.Chart, h.spec.Values); err != nil {
		return "", fmt.Errorf("install: %w", err)
	}
	return Installed, nil
}

func (h *helm) uninstall() error {
	u := action.NewUninstall(&h.cfg)
	u.IgnoreNotFound, u.Timeout = true, helmDeadline
	_, err := u.Run(h.spec.Name)
	return err
}

func (h *helm) exists() (bool, error) {
	_, err := h.cfg.Releases.Last(h.spec.Name)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read history: %w", err)
	}
	return true, nil
}

func (h *helm) remove(ctx context.Context) (bool, error) {
	there, err := h.exists()
	if err != nil || !there {
		return false, err
	}
	if err := ctx.Err(); err != nil { // Helm takes no context here
		return false, err
	}
	if err := h.uninstall(); err != nil {
		return false, fmt.Errorf("uninstall: %w", err)
	}
	return true, nil
}

func (h *helm) newUpgrade() *action.Upgrade {
	u := action.NewUpgrade(&h.cfg)
	u.Namespace, u.Timeout, u.MaxHistory = h.spec.Namespace, helmDeadline, historyLimit
	u.ResetValues, u.DisableOpenAPIValidation = true, true
	return u
}

func (h *helm) upgrade(ctx context.Context) (Change, error) {
	if _, err := h.newUpgrade().RunWithContext(ctx, h.spec.Name, h.spec.Chart, h.spec.Values); err != nil {
		return "", fmt.Errorf("upgrade: %w", err)
	}
	return Upgraded, nil
}

// same tells whether an upgrade would change nothing: it renders what would be applied and looks whether everything
// is still there.
func (h *helm) same(ctx context.Context, deployed *release.Release) (bool, error) {
	if !equalJSON(deployed.Config, h.spec.Values) {
		return false, nil
	}
	u := h.newUpgrade()
	u.DryRun, u.DryRunOption = true, "server"
	next, err := u.RunWithContext(ctx, h.spec.Name, h.spec.Chart, h.spec.Values)
	if err != nil {
		return false, fmt.Errorf("render: %w", err)
	}
	if next.Manifest != deployed.Manifest {
		return false, nil
	}
	lost, err := h.lost(deployed.Manifest)
	return !lost, err
}

func (h *helm) lostObjects(manifest string) (bool, error) {
	objects, err := h.cfg.KubeClient.Build(strings.NewReader(manifest), false)
	if err != nil {
		return false, fmt.Errorf("read deployed objects: %w", err)
	}
	for _, o := range objects {
		switch err := o.Get(); {
		case apierrors.IsNotFound(err):
			return true, nil
		case err != nil:
			return false, fmt.Errorf("look for %s: %w", o.ObjectName(), err)
		}
	}
	return false, nil
}

// equalJSON compares values as they are stored: by their JSON, where 1 and 1.0 are one number.
func equalJSON(a, b map[string]any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}
