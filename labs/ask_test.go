package labs

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/command"
	"wirelab.dev/wirelab/internal/kube"
)

func TestNodesFailed(t *testing.T) {
	nodes := []cluster.Node{{Name: "a-worker"}, {Name: "a-worker2"}}
	no, other := errors.New("no Services here"), errors.New("no agent pod on this node")
	for _, tt := range []struct {
		name     string
		failures []error
		want     string
	}{
		{"one", []error{nil, no}, "node a-worker2: no Services here"},
		{"each with its own", []error{other, no}, "node a-worker: no agent pod on this node\nnode a-worker2: no Services here"},
		{"all with the same", []error{no, errors.New(no.Error())}, "no Services here"},
	} {
		if err := nodesFailed(nodes, tt.failures); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if err := nodesFailed(nodes, []error{nil, nil}); err != nil {
		t.Errorf("none failed: %v", err)
	}
}

// TestAnswersOfAgents: a status that ends with 1 is one, words are an error, and so is neither.
func TestAnswersOfAgents(t *testing.T) {
	s, err := read[*api.Status](command.Result{Stdout: []byte(`{"node":"a","ready":false}`), Stderr: []byte("wirelab-agent: not ready"), Code: 1})
	if err != nil || s.Node != "a" {
		t.Errorf("%+v, %v", s, err)
	}
	for _, tt := range []struct {
		r    command.Result
		want string
	}{
		{command.Result{Stderr: []byte("wirelab-agent: Services are left to kube-proxy\n"), Code: 1}, "Services are left to kube-proxy"},
		{command.Result{Code: 137}, `run "` + agentBinary + `": exit status 137`},
		{command.Result{Stdout: []byte("x")}, "read the agent's answer: "},
	} {
		if got, err := read[[]api.Service](tt.r); err == nil || !strings.HasPrefix(err.Error(), tt.want) || got != nil {
			t.Errorf("%+v, %v, want %q", got, err, tt.want)
		}
	}
}

// TestOneNodeDown: the agents of the others are asked, and what is about the node that is down names it.
func TestOneNodeDown(t *testing.T) {
	pod := func(name, node string) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: SystemNamespace, Name: name, Labels: map[string]string{"app.kubernetes.io/name": agentName}},
			Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: agentContainer}}},
			Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
				Name: agentContainer, ContainerID: "x://1", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
			}}},
		}
	}
	l := &Lab{
		Name: "l", Nodes: []cluster.Node{{Name: "l-worker", Running: true}, {Name: "l-worker2", Paused: true}},
		Kube: &kube.Client{Interface: fake.NewClientset(pod("agent-2", "l-worker2"))},
	}
	_, err := AskAgents[api.Service](t.Context(), l, "", "service", "list")
	if want := "node l-worker: no agent pod on this node\nnode l-worker2: is paused"; err == nil || err.Error() != want {
		t.Errorf("lists: %v, want %q", err, want)
	}
	if _, err := l.Shell(t.Context(), "worker2", kube.Streams{}, nil); err == nil || !strings.Contains(err.Error(), "node l-worker2 is paused") {
		t.Errorf("a shell on it: %v", err)
	}
	if _, err := l.Shell(t.Context(), "kube-system/agent-2", kube.Streams{}, nil); err == nil || !strings.Contains(err.Error(), "node l-worker2, which is paused") {
		t.Errorf("a shell in its pod: %v", err)
	}
	if err := l.Logs(t.Context(), LogOptions{Component: "agent", Tail: 5}, func(LogLine) {}); err == nil || !strings.Contains(err.Error(), "node l-worker2 is paused: no log of pod kube-system/agent-2") {
		t.Errorf("logs of it: %v", err)
	}
	s := l.nodeStatus(t.Context(), l.Nodes[1], nil, pod("agent-2", "l-worker2"))
	if s.Down != "is paused" || s.Ready || s.AgentError != "the node is paused" {
		t.Errorf("its status: %+v", s)
	}
}
