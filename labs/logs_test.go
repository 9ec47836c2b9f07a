package labs

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/kube"
)

// TestOnlyAgentsLogPackets: what looks like a line about a packet is left out of an agent's log, and of no other; of these
// no more is asked for than is shown.
func TestOnlyAgentsLogPackets(t *testing.T) {
	var asked string
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/log") {
			asked = r.URL.Query().Get("tailLines")
			for _, line := range []string{"one", "two topic=packets"} {
				if r.URL.Query().Get("timestamps") == "true" {
					line = "2026-01-01T00:00:00Z " + line
				}
				fmt.Fprintln(w, line)
			}
			return
		}
		pods := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{{
			ObjectMeta: metav1.ObjectMeta{Namespace: SystemNamespace, Name: "x"},
			Spec:       corev1.PodSpec{NodeName: "l-worker", Containers: []corev1.Container{{Name: "c"}}},
		}}}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(pods); err != nil {
			t.Error(err)
		}
	}))
	defer api.Close()
	client, err := kube.NewForConfig(&rest.Config{Host: api.URL})
	if err != nil {
		t.Fatal(err)
	}
	l := &Lab{Name: "l", Nodes: []cluster.Node{{Name: "l-worker", Running: true}}, Kube: client}
	for component, want := range map[string][]string{"agent": {"one"}, "coredns": {"one", "two topic=packets"}} {
		var got []string
		if err := l.Logs(t.Context(), LogOptions{Component: component, Tail: 5}, func(line LogLine) { got = append(got, line.Line) }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("of %s: %q, want %q", component, got, want)
		}
		if component != "agent" && asked != "5" {
			t.Errorf("of %s: %q lines are asked for, want 5", component, asked)
		}
	}
}

// TestLogsOfNodesByTime: lines of several nodes are in the order in which they were written.
func TestLogsOfNodesByTime(t *testing.T) {
	pod := func(name, node string) corev1.Pod {
		return corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: SystemNamespace, Name: name},
			Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c"}}},
		}
	}
	logs := map[string]string{
		"x": "2026-01-01T00:00:01Z one\n2026-01-01T00:00:03.5Z three\n",
		"y": "2026-01-01T00:00:02Z two\n2026-01-01T00:00:03.6Z four\n",
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, text := range logs {
			if strings.HasSuffix(r.URL.Path, "/"+name+"/log") {
				fmt.Fprint(w, text)
				return
			}
		}
		w.Header().Set("Content-Type", "application/json")
		pods := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{pod("x", "l-worker"), pod("y", "l-worker2")}}
		if err := json.NewEncoder(w).Encode(pods); err != nil {
			t.Error(err)
		}
	}))
	defer api.Close()
	client, err := kube.NewForConfig(&rest.Config{Host: api.URL})
	if err != nil {
		t.Fatal(err)
	}
	l := &Lab{Name: "l", Nodes: []cluster.Node{{Name: "l-worker", Running: true}, {Name: "l-worker2", Running: true}}, Kube: client}
	var got []string
	if err := l.Logs(t.Context(), LogOptions{Component: "agent", Tail: -1}, func(line LogLine) { got = append(got, line.Node+" "+line.Line) }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"l-worker one", "l-worker2 two", "l-worker three", "l-worker2 four"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
