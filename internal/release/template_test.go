package release

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"reflect"
	"testing"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/kube"
	kubefake "helm.sh/helm/v3/pkg/kube/fake"
	"helm.sh/helm/v3/pkg/releaseutil"
	"sigs.k8s.io/yaml"

	"wirelab.dev/wirelab/charts"
	"wirelab.dev/wirelab/profiles"
)

// ofCluster is what the cluster runs; helm template takes it by --kube-version, or has its own.
var ofCluster = chartutil.KubeVersion{Version: "v1.37.0", Major: "1", Minor: "37"}

// sent is a cluster that keeps what it is asked to make.
type sent struct {
	kubefake.PrintingKubeClient
	manifest []byte
}

// Build is how Helm reads the objects before it makes them.
func (s *sent) Build(r io.Reader, _ bool) (kube.ResourceList, error) {
	var err error
	s.manifest, err = io.ReadAll(r)
	return nil, err
}

// TestHelmTemplate: helm template with the chart's folder and values from a file gives kubectl apply the objects that Ensure
// makes of the chart in the binary and values from a profile.
func TestHelmTemplate(t *testing.T) {
	all, err := profiles.List()
	if err != nil {
		t.Fatal(err)
	}
	in := profiles.Install{
		APIServerHost: "cp.example", APIServerPort: 6443,
		Agent: profiles.Image{Repository: "wirelab/agent", Tag: "1"}, Operator: profiles.Image{Repository: "wirelab/operator", Tag: "1"},
		Relay: profiles.Image{Repository: "wirelab/relay", Tag: "1"},
	}
	for _, shipped := range all {
		for _, set := range [][]string{nil, {"network.flows.relay.enabled=true", "network.flows.relay.tls=true"}} {
			t.Run(fmt.Sprint(shipped.Name, set), func(t *testing.T) {
				p, err := profiles.Load(shipped.Name, profiles.Options{Set: set})
				if err != nil {
					t.Fatal(err)
				}
				made, rendered := installed(t, p.Values(in)), templated(t, p.Values(in))
				if len(made) < 10 {
					t.Fatalf("install makes %d objects only", len(made))
				}
				for key, object := range made {
					if !reflect.DeepEqual(object, rendered[key]) {
						t.Errorf("%s: install makes\n%v\nhelm template\n%v", key, object, rendered[key])
					}
				}
				for key := range rendered {
					if made[key] == nil {
						t.Errorf("%s: helm template has it, install does not", key)
					}
				}
				other := p.Values(in)
				other["MTU"] = 1400
				if reflect.DeepEqual(made, templated(t, other)) {
					t.Error("another MTU makes no difference here: this does not see what it should")
				}
			})
		}
	}
}

// installed are the objects that Ensure makes on a cluster without the release.
func installed(t *testing.T, values map[string]any) map[string]map[string]any {
	t.Helper()
	ch, err := LoadChart(charts.FS, charts.Wirelab)
	if err != nil {
		t.Fatal(err)
	}
	h, cluster := fixture(t), &sent{PrintingKubeClient: kubefake.PrintingKubeClient{Out: io.Discard}}
	h.spec.Chart, h.spec.Values, h.cfg.KubeClient = ch, values, cluster
	h.cfg.Capabilities = chartutil.DefaultCapabilities.Copy()
	h.cfg.Capabilities.KubeVersion = ofCluster
	h.must(t, Installed)
	if hooks := h.last(t).Hooks; len(hooks) > 0 {
		t.Errorf("the chart has hooks, which kubectl apply does not run: %s", hooks[0].Path)
	}
	if crds := ch.CRDObjects(); len(crds) > 0 {
		t.Errorf("the chart has a folder crds, which helm template leaves out: %s", crds[0].Filename)
	}
	return objectsOf(t, cluster.manifest)
}

// templated are the objects that helm template prints.
func templated(t *testing.T, values map[string]any) map[string]map[string]any {
	t.Helper()
	ch, err := loader.Load("../../charts/wirelab")
	if err != nil {
		t.Fatal(err)
	}
	file, err := yaml.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	read, err := chartutil.ReadValues(file)
	if err != nil {
		t.Fatal(err)
	}
	i := action.NewInstall(&action.Configuration{Log: func(string, ...any) {}})
	i.ReleaseName, i.Namespace, i.Replace = "r", "ns", true
	i.DryRun, i.DryRunOption, i.ClientOnly = true, "true", true
	i.KubeVersion = &ofCluster
	r, err := i.RunWithContext(t.Context(), ch, read)
	if err != nil {
		t.Fatal(err)
	}
	return objectsOf(t, []byte(r.Manifest))
}

// objectsOf are the objects of a manifest by kind and name. What Secrets hold is made anew at each rendering: that they hold
// it is kept.
func objectsOf(t *testing.T, manifest []byte) map[string]map[string]any {
	t.Helper()
	out := map[string]map[string]any{}
	for doc := range maps.Values(releaseutil.SplitManifests(string(manifest))) {
		var o map[string]any
		if err := yaml.Unmarshal(bytes.TrimSpace([]byte(doc)), &o); err != nil {
			t.Fatal(err)
		}
		if len(o) == 0 {
			continue
		}
		if data, ok := o["data"].(map[string]any); ok && o["kind"] == "Secret" {
			for key, value := range data {
				data[key] = value != ""
			}
		}
		meta, _ := o["metadata"].(map[string]any)
		key := fmt.Sprintf("%s/%v", o["kind"], meta["name"])
		if out[key] != nil {
			t.Errorf("%s is there twice", key)
		}
		out[key] = o
	}
	return out
}
