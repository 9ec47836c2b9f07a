package charts_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/dynamic"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"sigs.k8s.io/yaml"

	"wirelab.dev/wirelab/charts"
)

// load loads the chart as it is embedded.
func load(t *testing.T) *chart.Chart {
	t.Helper()
	var files []*loader.BufferedFile
	err := fs.WalkDir(charts.FS, charts.Wirelab, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := charts.FS.ReadFile(path)
		files = append(files, &loader.BufferedFile{Name: strings.TrimPrefix(path, charts.Wirelab+"/"), Data: data})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := loader.LoadFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// renderValues are what the chart is rendered with, of values given as YAML.
func renderValues(t *testing.T, values string) (chartutil.Values, error) {
	t.Helper()
	var v map[string]any
	if err := yaml.Unmarshal([]byte(values), &v); err != nil {
		t.Fatal(err)
	}
	release := chartutil.ReleaseOptions{Name: "wirelab", Namespace: "kube-system", Revision: 1, IsInstall: true}
	return chartutil.ToRenderValues(load(t), v, release, chartutil.DefaultCapabilities)
}

// render renders the chart's files with values given as YAML.
func render(t *testing.T, values string) (map[string]string, error) {
	t.Helper()
	all, err := renderValues(t, values)
	if err != nil {
		return nil, err
	}
	return engine.Render(load(t), all)
}

// secrets are those of a cluster, which the chart looks up.
type secrets []*corev1.Secret

// GetClientFor is how the engine asks for them.
func (s secrets) GetClientFor(apiVersion, kind string) (dynamic.NamespaceableResourceInterface, bool, error) {
	if apiVersion != "v1" || kind != "Secret" {
		return nil, false, fmt.Errorf("the chart looks up %s %s", apiVersion, kind)
	}
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, false, err
	}
	var all []runtime.Object
	for _, one := range s {
		all = append(all, one)
	}
	return dynamicfake.NewSimpleDynamicClient(scheme, all...).Resource(corev1.SchemeGroupVersion.WithResource("secrets")), true, nil
}

// upgraded are the objects that the chart renders where a cluster has secrets.
func upgraded(t *testing.T, values string, there secrets) map[string]runtime.Object {
	t.Helper()
	all, err := renderValues(t, values)
	if err != nil {
		t.Fatal(err)
	}
	files, err := engine.RenderWithClientProvider(load(t), all, there)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, files)
}

// objects are the rendered objects by kind and name, decoded strictly: a key
// that Kubernetes does not know fails the test.
func objects(t *testing.T, values string) map[string]runtime.Object {
	t.Helper()
	files, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, files)
}

// decode is objects for files that have been rendered.
func decode(t *testing.T, files map[string]string) map[string]runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	utilruntime.Must(corev1.AddToScheme(scheme))
	utilruntime.Must(admissionv1.AddToScheme(scheme))
	utilruntime.Must(appsv1.AddToScheme(scheme))
	utilruntime.Must(coordinationv1.AddToScheme(scheme))
	utilruntime.Must(rbacv1.AddToScheme(scheme))
	utilruntime.Must(apiextensionsv1.AddToScheme(scheme))
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	out := map[string]runtime.Object{}
	for name, content := range files {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		for _, manifest := range releaseutil.SplitManifests(content) {
			foreign := &unstructured.Unstructured{}
			if unmarshal(t, []byte(manifest), &foreign.Object); foreign.GroupVersionKind().Group == "monitoring.coreos.com" {
				out[foreign.GetKind()+"/"+foreign.GetName()] = foreign // whose types are none of our dependencies
				continue
			}
			obj, kind, err := decoder.Decode([]byte(manifest), nil, nil)
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, manifest)
			}
			out[kind.Kind+"/"+nameOf(t, obj)] = obj
		}
	}
	return out
}

func nameOf(t *testing.T, obj runtime.Object) string {
	t.Helper()
	named, ok := obj.(interface{ GetName() string })
	if !ok {
		t.Fatalf("%T has no name", obj)
	}
	return named.GetName()
}

func get[T runtime.Object](t *testing.T, objs map[string]runtime.Object, key string) T {
	t.Helper()
	obj, ok := objs[key].(T)
	if !ok {
		t.Fatalf("the chart renders no %s: %v", key, objs)
	}
	return obj
}

func unmarshal(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := yaml.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

// raw is a file of the chart.
func raw(t *testing.T, name string) []byte {
	t.Helper()
	data, err := charts.FS.ReadFile(charts.Wirelab + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
