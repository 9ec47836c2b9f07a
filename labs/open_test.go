package labs

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wirelab.dev/wirelab/internal/cluster"
)

// TestUnreachable: only what the API server needs keeps a lab from being looked at, and it is named.
func TestUnreachable(t *testing.T) {
	node := func(name, role string, running, paused bool) cluster.Node {
		return cluster.Node{Name: name, Role: role, Running: running, Paused: paused}
	}
	cp, lb, worker := cluster.RoleControlPlane, cluster.RoleLoadBalancer, cluster.RoleWorker
	for _, tt := range []struct {
		name  string
		nodes []cluster.Node
		want  string // empty: it can be reached
	}{
		{"all run", []cluster.Node{node("a", cp, true, false), node("b", worker, true, false)}, ""},
		{"a worker is stopped", []cluster.Node{node("a", cp, true, false), node("b", worker, false, false)}, ""},
		{"a worker is paused", []cluster.Node{node("a", cp, true, false), node("b", worker, false, true)}, ""},
		{"the control plane is paused", []cluster.Node{node("a", cp, false, true), node("b", worker, true, false)}, "node a is paused"},
		{"everything is stopped", []cluster.Node{node("a", cp, false, false), node("b", worker, false, false)}, "node a is stopped"},
		{"one of two control planes", []cluster.Node{node("a", cp, false, false), node("a2", cp, true, false), node("l", lb, true, false)}, ""},
		{"the load balancer", []cluster.Node{node("a", cp, true, false), node("a2", cp, true, false), node("l", lb, false, false)}, "node l is stopped"},
	} {
		if got := unreachable(&cluster.Cluster{Nodes: tt.nodes}); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestStarting(t *testing.T) {
	for _, err := range []error{
		apierrors.NewForbidden(schema.GroupResource{Resource: "configmaps"}, "x", errors.New("not yet")),
		apierrors.NewServiceUnavailable("not yet"), &wrapped{syscall.ECONNREFUSED},
		apierrors.NewTimeoutError("busy", 1), apierrors.NewServerTimeout(schema.GroupResource{Resource: "configmaps"}, "get", 1), handshakeTimeout(t),
	} {
		if !starting(fmt.Errorf("read record: %w", err)) {
			t.Errorf("%v is not waited for", err)
		}
	}
	if starting(apierrors.NewNotFound(schema.GroupResource{}, "x")) || starting(errors.New("x")) {
		t.Error("what does not pass is waited for")
	}
}

// handshakeTimeout is what a client has of a server that accepts connections and says nothing.
func handshakeTimeout(t *testing.T) error {
	t.Helper()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	client := &http.Client{Transport: &http.Transport{TLSHandshakeTimeout: 10 * time.Millisecond}}
	answer, err := client.Get("https://" + silent.Addr().String())
	if err == nil {
		answer.Body.Close()
		t.Fatal("a server that says nothing has answered")
	}
	return err
}

type wrapped struct{ err error }

func (w *wrapped) Error() string { return "dial tcp: " + w.err.Error() }
func (w *wrapped) Unwrap() error { return w.err }

func TestNodesThatDoNotRun(t *testing.T) {
	l := &Lab{Nodes: []cluster.Node{{Name: "a", Running: true}, {Name: "b", Paused: true}, {Name: "c"}}}
	if down := l.down(); len(down) != 2 || !strings.HasPrefix(down["b"], "is paused: ") || !strings.HasPrefix(down["c"], "is stopped: ") {
		t.Errorf("%v", down)
	}
	if up := l.running(); len(up) != 1 || up[0].Name != "a" {
		t.Errorf("running: %+v", up)
	}
	if p := l.downProblems(); len(p) != 2 || p[0].Want != "node b" {
		t.Errorf("%+v", p)
	}
}

func TestChooseLab(t *testing.T) {
	one, two, other := &cluster.Cluster{Name: "one", Lab: true}, &cluster.Cluster{Name: "two", Lab: true}, &cluster.Cluster{Name: "other"}
	for _, tt := range []struct {
		title, name string
		all         []*cluster.Cluster
		want        *cluster.Cluster
		say         string
	}{
		{"the only one", "", []*cluster.Cluster{other, one}, one, ""},
		{"one of two", "two", []*cluster.Cluster{one, two}, two, ""},
		{"none", "", []*cluster.Cluster{other}, nil, "no such lab: there are none: make one with lab up kubeproxy"},
		{"a wrong name", "tow", []*cluster.Cluster{one, two}, nil, `no such lab: "tow": did you mean two? there are one, two`},
		{"none like it", "other-name", []*cluster.Cluster{one, two}, nil, `no such lab: "other-name": there are one, two`},
		{"two and no name", "", []*cluster.Cluster{one, two}, nil, "which lab: there are one, two: say it with --name, as in --name one"},
	} {
		got, err := chooseLab(tt.all, tt.name)
		if got != tt.want || tt.say != "" && (!errors.Is(err, ErrNotFound) || err.Error() != tt.say) {
			t.Errorf("%s: %v, %v; want %v, %q", tt.title, got, err, tt.want, tt.say)
		}
	}
}
