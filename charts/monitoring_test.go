package charts_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

// TestServiceMonitor: it finds the Service, the Service the agents, and the port is that of their metrics.
func TestServiceMonitor(t *testing.T) {
	objs := objects(t, "{serviceMonitor: {enabled: true, labels: {release: stack, app.kubernetes.io/name: other}}, prometheus: {port: 1234}}")
	service := get[*corev1.Service](t, objs, "Service/wirelab-agent")
	monitor := get[*unstructured.Unstructured](t, objs, "ServiceMonitor/wirelab-agent")
	pod := get[*appsv1.DaemonSet](t, objs, daemonSet).Spec.Template
	if !labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)) || len(service.Spec.Selector) == 0 || service.Spec.ClusterIP != corev1.ClusterIPNone {
		t.Errorf("the Service is %+v, the agents have %v", service.Spec, pod.Labels)
	}
	port := service.Spec.Ports[0]
	if i := slices.IndexFunc(pod.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == port.TargetPort.StrVal }); i < 0 ||
		pod.Spec.Containers[0].Ports[i].ContainerPort != 1234 || port.Port != 1234 {
		t.Errorf("the Service's port is %+v, the agent's are %+v", port, pod.Spec.Containers[0].Ports)
	}
	want := map[string]any{
		"selector": map[string]any{"matchLabels": map[string]any{"app.kubernetes.io/name": "wirelab-agent"}},
		"endpoints": []any{map[string]any{"port": port.Name, "path": "/metrics", "relabelings": []any{
			map[string]any{"sourceLabels": []any{"__meta_kubernetes_pod_node_name"}, "targetLabel": "instance"},
		}}},
	}
	if diff := cmp.Diff(want, monitor.Object["spec"]); diff != "" || monitor.GetAPIVersion() != "monitoring.coreos.com/v1" || monitor.GetNamespace() != service.Namespace {
		t.Errorf("the ServiceMonitor is %v\n%s", monitor.Object, diff)
	}
	if service.Labels["app.kubernetes.io/name"] != "wirelab-agent" {
		t.Errorf("it does not find a Service with labels %v", service.Labels)
	}
	wanted := maps.Clone(service.Labels)
	wanted["release"] = "stack"
	if diff := cmp.Diff(wanted, monitor.GetLabels()); diff != "" {
		t.Errorf("its labels: %s", diff)
	}
}

// TestDashboard: the ConfigMap has the file as it is. What the dashboard asks for is held against what agents serve beside these.
func TestDashboard(t *testing.T) {
	cm := get[*corev1.ConfigMap](t, objects(t, "dashboard: {enabled: true}"), "ConfigMap/wirelab-dashboard")
	file := raw(t, "dashboards/wirelab.json")
	if got := strings.TrimSpace(cm.Data["wirelab.json"]); got != strings.TrimSpace(string(file)) || cm.Labels["grafana_dashboard"] != "1" {
		t.Errorf("the ConfigMap has labels %v and %d bytes, the file %d", cm.Labels, len(got), len(file))
	}
	var again bytes.Buffer
	if err := json.Indent(&again, file, "", "  "); err != nil || !bytes.Equal(again.Bytes(), file) {
		t.Errorf("the file is not indented JSON: %v", err)
	}
}

// TestMonitoringIsOff where nobody asked for it.
func TestMonitoringIsOff(t *testing.T) {
	objs := objects(t, "")
	for _, name := range []string{"Service/wirelab-agent", "ServiceMonitor/wirelab-agent", "ConfigMap/wirelab-dashboard"} {
		if objs[name] != nil {
			t.Errorf("the chart renders %s", name)
		}
	}
}
