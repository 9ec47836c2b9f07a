package labs

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/kube"
)

// labWithLogs is a lab with a pod on each of its nodes, whose logs an API server of the test gives, with the times of their lines.
// asked is told with what each log is asked for.
func labWithLogs(t *testing.T, logs map[string]string, asked func(url.Values)) *Lab {
	t.Helper()
	l := &Lab{Name: "l"}
	pods := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}}
	for _, node := range slices.Sorted(maps.Keys(logs)) {
		l.Nodes = append(l.Nodes, cluster.Node{Name: node, Running: true})
		pods.Items = append(pods.Items, corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: SystemNamespace, Name: "on-" + node},
			Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c"}}},
		})
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for node, text := range logs {
			if strings.HasSuffix(r.URL.Path, "/on-"+node+"/log") {
				asked(r.URL.Query())
				fmt.Fprint(w, text)
				return
			}
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(pods); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(api.Close)
	var err error
	if l.Kube, err = kube.NewForConfig(&rest.Config{Host: api.URL}); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestOnlyAgentsLogPackets: what looks like a line about a packet is left out of an agent's log, and of no other; of these
// no more is asked for than is shown.
func TestOnlyAgentsLogPackets(t *testing.T) {
	var asked url.Values
	l := labWithLogs(t, map[string]string{"l-worker": "2026-01-01T00:00:00Z one\n2026-01-01T00:00:00Z two topic=packets\n"}, func(q url.Values) { asked = q })
	for component, want := range map[string][]string{"agent": {"one"}, "coredns": {"one", "two topic=packets"}} {
		var got []string
		if err := l.Logs(t.Context(), LogOptions{Component: component, Tail: 5}, func(line LogLine) { got = append(got, line.Line) }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("of %s: %q, want %q", component, got, want)
		}
		if asked.Get("timestamps") != "true" {
			t.Errorf("of %s: lines are asked for without their times", component)
		}
		if component != "agent" && asked.Get("tailLines") != "5" {
			t.Errorf("of %s: %q lines are asked for, want 5", component, asked.Get("tailLines"))
		}
	}
}

// TestLogsOfNodesByTime: lines of several nodes are in the order in which they were written.
func TestLogsOfNodesByTime(t *testing.T) {
	l := labWithLogs(t, map[string]string{
		"l-worker":  "2026-01-01T00:00:01Z one\n2026-01-01T00:00:03.5Z three\n",
		"l-worker2": "2026-01-01T00:00:02Z two\n2026-01-01T00:00:03.6Z four\n",
	}, func(url.Values) {})
	var got []string
	if err := l.Logs(t.Context(), LogOptions{Component: "agent", Tail: -1}, func(line LogLine) { got = append(got, line.Node+" "+line.Line) }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"l-worker one", "l-worker2 two", "l-worker three", "l-worker2 four"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
