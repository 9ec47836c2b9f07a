package labs

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"text/tabwriter"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/internal/bugreport"
	"wirelab.dev/wirelab/internal/kube"
)

// objectKinds are the paths of what a report has of the API server. Secrets are not among them, and of ConfigMaps only those
// that say how the network is set up.
func objectKinds() []string {
	core, apps, ours := "/api/v1/", "/apis/apps/v1/", "/apis/wirelab.dev/v1alpha1/"
	system := core + "namespaces/" + SystemNamespace
	return []string{
		core + "nodes", core + "namespaces", core + "pods", core + "services", core + "events",
		"/apis/discovery.k8s.io/v1/endpointslices", "/apis/networking.k8s.io/v1/networkpolicies",
		apps + "daemonsets", apps + "deployments", apps + "replicasets",
		"/apis/coordination.k8s.io/v1/namespaces/" + SystemNamespace + "/leases",
		ours + "labnodes", ours + "labidentities",
		system + "/configmaps/" + configName, system + "/configmaps/" + recordName, system + "/configmaps/coredns",
		system + "/configmaps/kube-proxy", system + "/configmaps/kubeadm-config",
	}
}

// objectAsks ask for objects, and for the table that kubectl would print of them.
func objectAsks(k *kube.Client) (asks []ask) {
	for _, at := range objectKinds() {
		title, one := "Objects: "+path.Base(at), strings.Contains(at, "/configmaps/")
		if one {
			title = "ConfigMap " + path.Base(at)
		}
		asks = append(asks, ask{
			part: bugreport.Part{Section: "Kubernetes", Title: title, Path: "kubernetes/" + path.Base(at) + ".json"},
			do: func(ctx context.Context) ([]byte, error) {
				all, err := objects(ctx, k, at)
				if one && apierrors.IsNotFound(err) {
					return nil, nil // as kube-proxy's where there is none
				}
				return all, err
			},
		})
		if !one {
			asks = append(asks, ask{
				part: bugreport.Part{Section: "Kubernetes", Title: "Table of " + path.Base(at), Path: "kubernetes/" + path.Base(at) + ".txt"},
				do:   func(ctx context.Context) ([]byte, error) { return objectTable(ctx, k, at) },
			})
		}
	}
	return asks
}

// objects are those at a path, without secrets.
func objects(ctx context.Context, k *kube.Client, at string) ([]byte, error) {
	raw, err := k.CoreV1().RESTClient().Get().AbsPath(at).DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", at, err)
	}
	var all map[string]any
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("read %s: %w", at, err)
	}
	items, isList := all["items"].([]any)
	for _, i := range items {
		if o, ok := i.(map[string]any); ok {
			bare(o)
		}
	}
	if !isList {
		bare(all)
	}
	return json.MarshalIndent(all, "", "  ")
}

// bare takes off an object what is of no use in a report, and what may have secrets: values of environment variables, of
// annotations that are not Kubernetes' own or ours, and, outside the system's namespace, of what containers are started with.
func bare(o map[string]any) {
	meta, ok := o["metadata"].(map[string]any)
	if ok {
		delete(meta, "managedFields")
		if annotations, ok := meta["annotations"].(map[string]any); ok {
			bareAnnotations(annotations)
		}
	}
	inSystem := meta["namespace"] == SystemNamespace
	for _, part := range []string{"spec", "status"} {
		bareSpec(o[part], inSystem)
	}
}

func bareAnnotations(annotations map[string]any) {
	for key := range annotations {
		domain, _, _ := strings.Cut(key, "/")
		known := strings.HasSuffix("."+domain, ".kubernetes.io") || strings.HasSuffix("."+domain, ".k8s.io") || strings.HasSuffix("."+domain, ".wirelab.dev")
		if !known || key == corev1.LastAppliedConfigAnnotation {
			annotations[key] = bugreport.LeftOut
		}
	}
}

// bareSpec goes through all that is below.
func bareSpec(v any, inSystem bool) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			bareSpec(e, inSystem)
		}
	case map[string]any:
		for key, e := range v {
			switch {
			case key == "env":
				bareEnv(e)
			case (key == "command" || key == "args") && !inSystem, key == "httpHeaders":
				v[key] = []any{bugreport.LeftOut}
			case key == "annotations":
				if annotations, ok := e.(map[string]any); ok {
					bareAnnotations(annotations)
				}
			default:
				bareSpec(e, inSystem)
			}
		}
	}
}

func bareEnv(env any) {
	all, _ := env.([]any)
	for _, e := range all {
		if one, ok := e.(map[string]any); ok && one["value"] != nil {
			one["value"] = bugreport.LeftOut
		}
	}
}

// objectTable is what kubectl prints of the objects at a path.
func objectTable(ctx context.Context, k *kube.Client, at string) ([]byte, error) {
	raw, err := k.CoreV1().RESTClient().Get().AbsPath(at).SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", at, err)
	}
	type tableRow struct {
		Cells  []any                        `json:"cells"`
		Object metav1.PartialObjectMetadata `json:"object"`
	}
	var t struct {
		ColumnDefinitions []metav1.TableColumnDefinition `json:"columnDefinitions"`
		Rows              []tableRow                     `json:"rows"`
	}
	if err := json.Unmarshal(raw, &t); err != nil {
		return nil, fmt.Errorf("read %s as a table: %w", at, err)
	}
	if strings.HasSuffix(at, "/events") {
		slices.SortStableFunc(t.Rows, func(a, b tableRow) int {
			return cmp.Compare(a.Object.CreationTimestamp.Unix(), b.Object.CreationTimestamp.Unix())
		})
	}
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	row := []string{"NAMESPACE"}
	for _, c := range t.ColumnDefinitions {
		row = append(row, strings.ToUpper(c.Name))
	}
	fmt.Fprintln(w, strings.Join(row, "\t"))
	for _, r := range t.Rows {
		row = []string{r.Object.Namespace}
		for _, c := range r.Cells {
			row = append(row, strings.Join(strings.Fields(fmt.Sprint(c)), " "))
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	err = w.Flush()
	return b.Bytes(), err
}

// secretValues are what Secrets have, and environment variables outside the system's namespace: what must be in no log either.
func secretValues(ctx context.Context, k *kube.Client) (values []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	secrets, err := k.CoreV1().Secrets("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list Secrets: %w", err)
	}
	for _, s := range secrets.Items {
		for key, v := range s.Data {
			if secretKey(s.Type, key) {
				values = append(values, string(v))
			}
		}
	}
	pods, err := k.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return values, fmt.Errorf("list pods: %w", err)
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		if p.Namespace == SystemNamespace {
			continue
		}
		for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
			for _, e := range c.Env {
				values = append(values, e.Value)
			}
		}
		for _, c := range p.Spec.EphemeralContainers {
			for _, e := range c.Env {
				values = append(values, e.Value)
			}
		}
	}
	return values, nil
}

// secretKey tells whether what a Secret of a type has under a key is a secret: of Kubernetes' own, some are plain words, such as
// the name of a namespace, and a release of Helm's is a chart.
func secretKey(of corev1.SecretType, key string) bool {
	switch of {
	case corev1.SecretTypeServiceAccountToken:
		return key == corev1.ServiceAccountTokenKey
	case "bootstrap.kubernetes.io/token":
		return key == "token-secret"
	case "helm.sh/release.v1":
		return false
	}
	return true
}
