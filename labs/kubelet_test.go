package labs

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/kube"
)

// What an API server says of a kubelet that does not answer, and a kubelet of a container that does not run yet.
const (
	refused = "unable to upgrade connection: error dialing backend: dial tcp 172.18.0.2:10250: connect: connection refused"
	noAgent = `unable to upgrade connection: container not found ("agent")`
)

func TestExplainKubelet(t *testing.T) {
	for _, tt := range []struct{ err, want string }{
		{refused, "node l-worker: its kubelet does not answer (connection refused): lab shell l-worker -- systemctl status kubelet says why"},
		{noAgent, "node l-worker: the agent does not run there, or not yet"},
		{"exit status 1", "exit status 1"},
	} {
		if got := onNode("l-worker", "the agent", fmt.Errorf("run %q: %w", "x", errors.New(tt.err))); !strings.HasSuffix(got.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.err, got, tt.want)
		}
	}
	if err := onNode("l-worker", "the agent", nil); err != nil {
		t.Error(err)
	}
}

// TestWhenStarted waits for a node that was just restarted, and for nothing else.
func TestWhenStarted(t *testing.T) {
	errs := []error{errors.New(refused), errors.New(noAgent), nil}
	n := 0
	if err := whenStarted(t.Context(), time.Minute, func() error { n++; return errs[n-1] }); err != nil || n != 3 {
		t.Errorf("after %d tries: %v", n, err)
	}
	n = 0
	if err := whenStarted(t.Context(), time.Minute, func() error { n++; return errors.New("exit status 1") }); err == nil || n != 1 {
		t.Errorf("what does not pass was tried %d times: %v", n, err)
	}
	n = 0
	if err := whenStarted(t.Context(), 0, func() error { n++; return errors.New(refused) }); err == nil || n != 1 {
		t.Errorf("without patience there were %d tries: %v", n, err)
	}
}

// TestSilentKubelets asks an API server that does not reach all kubelets: one refuses, two hang, one is not well.
func TestSilentKubelets(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch r.URL.Path {
		case "/api/v1/nodes/l-control-plane/proxy/healthz":
			fmt.Fprint(w, "ok")
		case "/api/v1/namespaces/kube-system/pods": // no agent runs
			writeJSON(t, w, corev1.PodList{})
		case "/api/v1/nodes/l-worker/proxy/healthz":
			http.Error(w, "error trying to reach service: dial tcp 172.18.0.2:10250: connect: connection refused", http.StatusServiceUnavailable)
		case "/api/v1/nodes/l-worker3/proxy/healthz":
			<-r.Context().Done()
		case "/api/v1/nodes/l-worker4/proxy/healthz":
			http.Error(w, "error trying to reach service: net/http: TLS handshake timeout", http.StatusServiceUnavailable)
		case "/api/v1/nodes/l-worker5/proxy/healthz":
			http.Error(w, "syncloop failed", http.StatusInternalServerError)
		default:
			t.Errorf("asked for %s", r.URL.Path)
		}
	}))
	defer server.Close()
	client, err := kube.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	l := &Lab{Name: "l", Kube: client, Nodes: []cluster.Node{{Name: "l-control-plane", Running: true}, {Name: "l-worker2"}}}
	want := map[string]string{}
	for node, why := range map[string]string{"l-worker": "connection refused", "l-worker3": "not within 300ms", "l-worker4": "TLS handshake timeout"} {
		l.Nodes = append(l.Nodes, cluster.Node{Name: node, Running: true})
		want[node] = "runs, but its kubelet does not answer (" + why + "): lab shell " + node + " -- systemctl status kubelet says why"
	}
	if silent := l.silentKubelets(t.Context(), 300*time.Millisecond); !maps.Equal(silent, want) {
		t.Errorf("silent are %v, want %v", silent, want)
	}
	problems := kube.Look(t.Context(), l.kubeletAnswers("l-control-plane"), l.kubeletAnswers("l-worker"))
	if len(problems) != 1 || problems[0].Blame.Name != "l-worker" || !strings.Contains(problems[0].Why, "its kubelet does not answer") {
		t.Errorf("lab up waits for %+v", problems)
	}
	if problems := kube.Look(t.Context(), l.kubeletAnswers("l-worker5")); len(problems) != 1 || !strings.Contains(problems[0].Why, "syncloop failed") {
		t.Errorf("of a kubelet that is not well: %+v", problems)
	}
	if n := asked.Load(); n < 3 {
		t.Errorf("%d questions: the worker's was not waited for", n)
	}
}

func writeJSON(t *testing.T, w http.ResponseWriter, v any) {
	t.Helper()
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		t.Error(err)
	}
}

// hearing is an API server with two nodes' agents, one of which is on a node whose kubelet hears of no change before it has
// been asked for its pods a few times.
type hearing struct {
	t    *testing.T
	mu   sync.Mutex
	pods map[string]*corev1.Pod // the agents', by node
	deaf int                    // how many questions to the worker's kubelet are answered as before any change
}

func (h *hearing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	node, question, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/api/v1/nodes/"), "/proxy/")
	switch {
	case question == "healthz":
		fmt.Fprint(w, "ok")
	case question == "pods":
		known := *h.pods[node]
		if node == "l-worker" && h.deaf > 0 {
			h.deaf--
			known.Annotations = nil
		}
		writeJSON(h.t, w, corev1.PodList{Items: []corev1.Pod{known}})
	case r.Method == http.MethodPatch:
		node := strings.TrimPrefix(r.URL.Path, "/api/v1/namespaces/kube-system/pods/agent-")
		if err := json.NewDecoder(r.Body).Decode(h.pods[node]); err != nil {
			h.t.Error(err)
		}
		writeJSON(h.t, w, h.pods[node])
	case r.URL.Path == "/api/v1/namespaces/kube-system/pods":
		var all corev1.PodList
		for _, p := range h.pods {
			all.Items = append(all.Items, *p)
		}
		writeJSON(h.t, w, all)
	default: // events of the node that is waited for
		writeJSON(h.t, w, corev1.EventList{})
	}
}

// TestDeafNodes waits for a kubelet that answers and hears nothing, says so, and does without it where it takes too long.
func TestDeafNodes(t *testing.T) {
	for _, tt := range []struct {
		what     string
		deaf     int
		patience time.Duration
		want     map[string]string
		told     []string
	}{
		{"all hear", 0, time.Minute, map[string]string{}, nil},
		{"one hears late", 8, time.Minute, map[string]string{}, []string{"waiting for kubelet of node l-worker"}},
		{"one never hears", 1 << 30, 4 * time.Second, map[string]string{"l-worker": "runs, but " + deafKubelet}, []string{
			"waiting for kubelet of node l-worker", "not ready after 4s: kubelet of node l-worker: node l-worker " + deafKubelet,
		}},
	} {
		h := &hearing{t: t, pods: map[string]*corev1.Pod{}, deaf: tt.deaf}
		l := &Lab{Name: "l"}
		for _, node := range []string{"l-control-plane", "l-worker"} {
			h.pods[node] = &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "agent-" + node, UID: types.UID(node)},
				Spec:       corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: corev1.PodRunning},
			}
			l.Nodes = append(l.Nodes, cluster.Node{Name: node, Running: true})
		}
		server := httptest.NewServer(h)
		defer server.Close()
		var err error
		if l.Kube, err = kube.NewForConfig(&rest.Config{Host: server.URL}); err != nil {
			t.Fatal(err)
		}
		l.Nodes = append(l.Nodes, cluster.Node{Name: "l-worker2", Paused: true}, cluster.Node{Name: "l-worker3", Running: true})
		var told []string
		deaf := l.deafNodes(t.Context(), map[string]string{"l-worker3": "is silent"}, tt.patience, func(what string) { told = append(told, what) })
		if !maps.Equal(deaf, tt.want) || !slices.Equal(told, tt.told) {
			t.Errorf("%s: deaf are %v, want %v; told %q, want %q", tt.what, deaf, tt.want, told, tt.told)
		}
		if a, b := h.pods["l-control-plane"].Annotations[markOfHearing], h.pods["l-worker"].Annotations[markOfHearing]; a == "" || b == "" || a == b {
			t.Errorf("%s: the agents' pods are marked %q and %q", tt.what, a, b)
		}
	}
}
