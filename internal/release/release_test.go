package release

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"helm.sh/helm/v3/pkg/chartutil"
	kubefake "helm.sh/helm/v3/pkg/kube/fake"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
)

func chartFiles() fstest.MapFS {
	return fstest.MapFS{
		"c/Chart.yaml":         {Data: []byte("apiVersion: v2\nname: c\nversion: 1.0.0\n")},
		"c/values.yaml":        {Data: []byte("size: 0\n")},
		"c/values.schema.json": {Data: []byte(`{"type":"object","additionalProperties":false,"properties":{"size":{"type":"integer"}}}`)},
		"c/templates/_h.tpl":   {Data: []byte(`{{ define "name" }}thing{{ end }}`)},
		"c/templates/obj.yaml": {Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ include \"name\" . }}\ndata:\n  size: \"{{ .Values.size }}\"\n")},
	}
}

// fixture is a helm whose history is in memory and whose cluster takes everything. Helm itself is the real one.
func fixture(t *testing.T) *helm {
	t.Helper()
	ch, err := LoadChart(chartFiles(), "c")
	if err != nil {
		t.Fatal(err)
	}
	h := &helm{spec: Spec{Name: "r", Namespace: "ns", Chart: ch, Values: map[string]any{"size": 1}}}
	h.cfg.Releases = storage.Init(driver.NewMemory())
	h.cfg.KubeClient = &kubefake.PrintingKubeClient{Out: io.Discard}
	h.cfg.Capabilities = chartutil.DefaultCapabilities
	h.cfg.Log = func(string, ...any) {}
	h.lost = func(string) (bool, error) { return false, nil }
	return h
}

func (h *helm) must(t *testing.T, want Change) {
	t.Helper()
	if got, err := h.ensure(t.Context()); err != nil || got != want {
		t.Fatalf("%s, %v; want %s", got, err, want)
	}
}

func (h *helm) last(t *testing.T) *release.Release {
	t.Helper()
	r, err := h.cfg.Releases.Last("r")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEnsureChangesOnlyWhatChanged(t *testing.T) {
	h := fixture(t)
	h.must(t, Installed)
	h.must(t, Unchanged)
	if v := h.last(t).Version; v != 1 {
		t.Errorf("revision %d after a second ensure, want 1", v)
	}
	h.spec.Values = map[string]any{"size": 2}
	h.must(t, Upgraded)
	r := h.last(t)
	if r.Version != 2 || r.Info.Status != release.StatusDeployed || !strings.Contains(r.Manifest, `size: "2"`) {
		t.Errorf("revision %d is %s:\n%s", r.Version, r.Info.Status, r.Manifest)
	}
	h.must(t, Unchanged)
}

func TestEnsureDropsOldValues(t *testing.T) {
	h := fixture(t)
	h.must(t, Installed)
	h.spec.Values = map[string]any{}
	h.must(t, Upgraded)
	if m := h.last(t).Manifest; !strings.Contains(m, `size: "0"`) {
		t.Errorf("a value that is no longer set is still in force:\n%s", m)
	}
}

func TestEnsureFollowsTheChart(t *testing.T) {
	h := fixture(t)
	h.must(t, Installed)
	files := chartFiles()
	files["c/templates/obj.yaml"].Data = append(files["c/templates/obj.yaml"].Data, "  more: there\n"...)
	ch, err := LoadChart(files, "c")
	if err != nil {
		t.Fatal(err)
	}
	h.spec.Chart = ch
	h.must(t, Upgraded)
	if m := h.last(t).Manifest; !strings.Contains(m, "more: there") {
		t.Errorf("manifest:\n%s", m)
	}
}

func TestEnsureBringsBackWhatIsGone(t *testing.T) {
	h := fixture(t)
	h.must(t, Installed)
	h.lost = func(manifest string) (bool, error) { return strings.Contains(manifest, "name: thing"), nil }
	h.must(t, Upgraded)
}

func TestEnsureTakesUpWhatWasInterrupted(t *testing.T) {
	for _, st := range []release.Status{release.StatusPendingInstall, release.StatusPendingUpgrade, release.StatusPendingRollback, release.StatusFailed} {
		t.Run(string(st), func(t *testing.T) {
			h := fixture(t)
			h.must(t, Installed)
			r := h.last(t)
			r.SetStatus(st, "killed")
			if err := h.cfg.Releases.Update(r); err != nil {
				t.Fatal(err)
			}
			h.must(t, Upgraded)
			if r := h.last(t); r.Info.Status != release.StatusDeployed {
				t.Errorf("revision %d is %s", r.Version, r.Info.Status)
			}
			h.must(t, Unchanged)
		})
	}
}

func TestEnsureAfterAnInterruptedUninstall(t *testing.T) {
	h := fixture(t)
	h.must(t, Installed)
	r := h.last(t)
	r.SetStatus(release.StatusUninstalling, "killed")
	if err := h.cfg.Releases.Update(r); err != nil {
		t.Fatal(err)
	}
	h.must(t, Installed)
}

// TestRemove: a release goes in whatever state it is, and none there is no error.
func TestRemove(t *testing.T) {
	for _, st := range []release.Status{release.StatusDeployed, release.StatusFailed, release.StatusPendingInstall, release.StatusPendingUpgrade, release.StatusUninstalling} {
		t.Run(string(st), func(t *testing.T) {
			h := fixture(t)
			if there, err := h.remove(t.Context()); there || err != nil {
				t.Fatalf("before: %v, %v", there, err)
			}
			h.must(t, Installed)
			r := h.last(t)
			r.SetStatus(st, "")
			if err := h.cfg.Releases.Update(r); err != nil {
				t.Fatal(err)
			}
			if there, err := h.remove(t.Context()); !there || err != nil {
				t.Fatalf("removed: %v, %v", there, err)
			}
			if there, err := h.exists(); there || err != nil {
				t.Errorf("after: %v, %v", there, err)
			}
		})
	}
}

func TestEnsureRefusesUnknownValues(t *testing.T) {
	h := fixture(t)
	h.spec.Values = map[string]any{"m": 1}
	if _, err := h.ensure(t.Context()); err == nil || !strings.Contains(err.Error(), "m") {
		t.Errorf("error = %v, want the schema's", err)
	}
}

func TestLoadChartNotThere(t *testing.T) {
	if _, err := LoadChart(chartFiles(), "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error = %v", err)
	}
}
